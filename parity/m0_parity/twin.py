"""Float32 twins: the same file with every weight dequantized, an exact oracle for what a quantized file means.

On the twin llama.cpp multiplies float32 weights by float32 activations; on the quantized file it rounds the activations
to 8 bits as well. So a worker that dequantizes exactly must equal llama.cpp on the twin to float32 rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
from m0_models import container
from m0_models.container import Tensor
from m0_models.corrupt import read_back
from m0_models.quantize import dequantize

if TYPE_CHECKING:
    from pathlib import Path


def write_twin(source: Path, target: Path) -> Path:
    """Write ``source`` with all tensors in F32 to ``target``; returns ``target``."""
    architecture = gguf.GGUFReader(source).fields["general.architecture"].contents()
    metadata, tensors = read_back(source)
    metadata["general.file_type"] = 0
    twins = [Tensor(t.name, "F32", dequantize(t.raw, t.type).view(np.uint8)) for t in tensors]
    return container.write(target, str(architecture), metadata, twins, complete=False)
