"""Structures, signatures and the guard of the binding.

The wheel's one shared object exports llama.cpp's whole C API. Its structures change without a symbol changing, so a
build other than the one these structures were written for is refused, and the defaults it returns by value are compared
with canaries: a shifted field would show there instead of in the numbers.

Source: llama.h and ggml.h of llama.cpp b11549, as packaged in xllamacpp 2026.10.11549.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from ctypes import POINTER, Structure, c_bool, c_char_p, c_double, c_float, c_int8, c_int32, c_int64, c_size_t, c_void_p
from ctypes import c_uint32 as u32
from functools import cache
from pathlib import Path
from typing import Final

BUILD: Final = "2026.10.11549"
EVAL_CALLBACK: Final = ctypes.CFUNCTYPE(c_bool, c_void_p, c_bool, c_void_p)
LOG_CALLBACK: Final = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
ENABLED: Final = 1
DISABLED: Final = 0


class ReferenceUnavailableError(RuntimeError):
    """llama.cpp cannot be used here: not installed, another build, or a layout that does not match."""


class ModelParams(Structure):
    """struct llama_model_params."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """struct llama_context_params."""

    _fields_ = [
        ("n_ctx", u32),
        ("n_batch", u32),
        ("n_ubatch", u32),
        ("n_seq_max", u32),
        ("n_rs_seq", u32),
        ("n_outputs_max", u32),
        ("n_outputs_max_per_seq", u32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", u32),
        ("defrag_thold", c_float),
        ("cb_eval", EVAL_CALLBACK),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(Structure):
    """struct llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


class GgmlTensor(Structure):
    """struct ggml_tensor."""

    _fields_ = [
        ("type", c_int32),
        ("buffer", c_void_p),
        ("ne", c_int64 * 4),
        ("nb", c_size_t * 4),
        ("op", c_int32),
        ("op_params", c_int32 * 16),
        ("flags", c_int32),
        ("src", c_void_p * 10),
        ("view_src", c_void_p),
        ("view_offs", c_size_t),
        ("data", c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", c_void_p),
    ]


class TokenData(Structure):
    """struct llama_token_data."""

    _fields_ = [("id", c_int32), ("logit", c_float), ("p", c_float)]


class TokenDataArray(Structure):
    """struct llama_token_data_array."""

    _fields_ = [("data", POINTER(TokenData)), ("size", c_size_t), ("selected", c_int64), ("sorted", c_bool)]


class ChainParams(Structure):
    """struct llama_sampler_chain_params."""

    _fields_ = [("no_perf", c_bool)]


_SIGNATURES: Final[dict[str, tuple[object, list[object]]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [LOG_CALLBACK, c_void_p]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_model_n_embd": (c_int32, [c_void_p]),
    "llama_model_n_layer": (c_int32, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_meta_val_str": (c_int32, [c_void_p, c_char_p, c_char_p, c_size_t]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "llama_detokenize": (c_int32, [c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_n_ctx": (u32, [c_void_p]),
    "ggml_version": (c_char_p, []),
    "ggml_commit": (c_char_p, []),
    "ggml_nbytes": (c_size_t, [c_void_p]),
    "ggml_op_desc": (c_char_p, [c_void_p]),
    "ggml_type_name": (c_char_p, [c_int32]),
    "ggml_is_contiguous": (c_bool, [c_void_p]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_quantize_chunk": (
        c_size_t,
        [c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p],
    ),
    "llama_sampler_chain_default_params": (ChainParams, []),
    "llama_sampler_chain_init": (c_void_p, [ChainParams]),
    "llama_sampler_chain_add": (None, [c_void_p, c_void_p]),
    "llama_sampler_apply": (None, [c_void_p, POINTER(TokenDataArray)]),
    "llama_sampler_accept": (None, [c_void_p, c_int32]),
    "llama_sampler_free": (None, [c_void_p]),
    "llama_sampler_init_greedy": (c_void_p, []),
    "llama_sampler_init_dist": (c_void_p, [u32]),
    "llama_sampler_init_top_k": (c_void_p, [c_int32]),
    "llama_sampler_init_top_p": (c_void_p, [c_float, c_size_t]),
    "llama_sampler_init_min_p": (c_void_p, [c_float, c_size_t]),
    "llama_sampler_init_temp": (c_void_p, [c_float]),
    "llama_sampler_init_penalties": (c_void_p, [c_int32, c_int32, c_float, c_float, c_float]),
}


class _Log:
    """Keeps llama.cpp's last lines, so that a failed load can say why; prints nothing."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.callback = LOG_CALLBACK(self._take)

    def _take(self, _level: int, text: bytes, _data: object) -> None:
        self.lines = [*self.lines[-40:], text.decode(errors="replace").rstrip()]

    def reason(self) -> str:
        """The last lines that speak of an error, newest last."""
        telling = [line for line in self.lines if "error" in line.lower() or "fail" in line.lower()]
        return "; ".join(telling[-3:]) or "no reason logged"


LOG: Final = _Log()


def _shared_object() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise ReferenceUnavailableError(f"llama.cpp is not installed: pip install xllamacpp=={BUILD}")
    found = [p for place in spec.submodule_search_locations for p in Path(place).glob("xllamacpp*.so")]
    if len(found) != 1:
        raise ReferenceUnavailableError(f"expected one shared object of xllamacpp, found {len(found)}")
    return found[0]


@cache
def library() -> ctypes.CDLL:
    """The loaded and guarded library.

    Raises:
        ReferenceUnavailableError: the package is missing, is another build, or its structures do not match ours.
    """
    path = _shared_object()
    version = importlib.metadata.version("xllamacpp")
    if version != BUILD:
        raise ReferenceUnavailableError(
            f"xllamacpp {version} is installed, but the structures here were written for {BUILD}: install that one"
        )
    lib = ctypes.CDLL(str(path))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    _check_canaries(lib)
    lib.llama_log_set(LOG.callback, None)
    lib.llama_backend_init()
    return lib


def _check_canaries(lib: ctypes.CDLL) -> None:
    context, model = lib.llama_context_default_params(), lib.llama_model_default_params()
    expected: dict[str, tuple[object, object]] = {
        "n_ctx": (context.n_ctx, 512),
        "n_batch": (context.n_batch, 2048),
        "n_ubatch": (context.n_ubatch, 512),
        "n_seq_max": (context.n_seq_max, 1),
        "flash_attn_type": (context.flash_attn_type, -1),
        "yarn_ext_factor": (context.yarn_ext_factor, -1.0),
        "yarn_beta_slow": (context.yarn_beta_slow, -1.0),
        "defrag_thold": (context.defrag_thold, -1.0),
        "type_k": (context.type_k, 1),
        "type_v": (context.type_v, 1),
        "moe_cache_size": (context.moe_cache_size, 0),
        "embeddings": (context.embeddings, False),
        "offload_kqv": (context.offload_kqv, True),
        "no_perf": (context.no_perf, True),
        "op_offload": (context.op_offload, True),
        "swa_full": (context.swa_full, True),
        "kv_unified": (context.kv_unified, False),
        "n_samplers": (context.n_samplers, 0),
        "n_gpu_layers": (model.n_gpu_layers, -1),
        "vocab_only": (model.vocab_only, False),
        "use_extra_bufts": (model.use_extra_bufts, True),
        "no_alloc": (model.no_alloc, False),
    }
    wrong = [f"{name} is {seen!r}, not {due!r}" for name, (seen, due) in expected.items() if seen != due]
    if wrong:
        raise ReferenceUnavailableError("llama.cpp's structures are laid out differently: " + "; ".join(wrong))


def provenance() -> dict[str, str]:
    """Which reference this is: package, ggml version and commit."""
    lib = library()
    return {
        "engine": "llama.cpp",
        "package": f"xllamacpp {BUILD}",
        "ggml": lib.ggml_version().decode(),
        "commit": lib.ggml_commit().decode(),
    }


__all__ = [
    "BUILD", "EVAL_CALLBACK", "LOG", "Batch", "ContextParams", "GgmlTensor", "ModelParams", "ReferenceUnavailableError",
    "TokenData", "TokenDataArray", "c_double", "library", "provenance",
]  # fmt: skip
