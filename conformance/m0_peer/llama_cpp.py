"""llama.cpp by ctypes: the C API that the pinned xllamacpp wheel exports, as much of it as a worker needs.

A structure of another build may be laid out differently without any symbol saying so. Hence the pin, and the check of
the defaults that the library returns by value.

Source: llama.h and ggml.h of llama.cpp b11549, as packaged in xllamacpp 2026.10.11549.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_float,
    c_int8,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from pathlib import Path
from typing import Any, Final

from m0_peer.errors import LoadError

BUILD: Final = "2026.10.11549"
PROGRESS: Final = ctypes.CFUNCTYPE(c_bool, c_float, c_void_p)
_LOG: Final = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
_ABORT: Final = ctypes.CFUNCTYPE(None, c_char_p)
NO_MMAP: Final = 0  # enum llama_load_mode
F16: Final = 1  # enum ggml_type
_ERROR: Final = 4  # enum ggml_log_level


class ModelParams(Structure):
    """struct llama_model_params."""

    _fields_ = [
        ("devices", c_void_p), ("tensor_buft_overrides", c_void_p), ("n_gpu_layers", c_int32), ("split_mode", c_int32),
        ("load_mode", c_int32), ("lazy_mode", c_int32), ("main_gpu", c_int32), ("tensor_split", c_void_p),
        ("progress_callback", PROGRESS), ("progress_callback_user_data", c_void_p), ("kv_overrides", c_void_p),
        ("vocab_only", c_bool), ("check_tensors", c_bool), ("use_extra_bufts", c_bool), ("no_host", c_bool),
        ("no_alloc", c_bool), ("load_mtp", c_bool),
    ]  # fmt: skip


class ContextParams(Structure):
    """struct llama_context_params."""

    _fields_ = [
        ("n_ctx", c_uint32), ("n_batch", c_uint32), ("n_ubatch", c_uint32), ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32), ("n_outputs_max", c_uint32), ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32), ("n_threads_batch", c_int32), ("ctx_type", c_int32), ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32), ("attention_type", c_int32), ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float), ("rope_freq_scale", c_float), ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float), ("yarn_beta_fast", c_float), ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32), ("defrag_thold", c_float), ("cb_eval", c_void_p), ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32), ("type_v", c_int32), ("moe_cache_size", c_size_t), ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p), ("embeddings", c_bool), ("offload_kqv", c_bool), ("no_perf", c_bool),
        ("op_offload", c_bool), ("swa_full", c_bool), ("kv_unified", c_bool), ("samplers", c_void_p),
        ("n_samplers", c_size_t), ("ctx_other", c_void_p),
    ]  # fmt: skip


class Batch(Structure):
    """struct llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32), ("token", POINTER(c_int32)), ("embd", POINTER(c_float)), ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)), ("seq_id", POINTER(POINTER(c_int32))), ("logits", POINTER(c_int8)),
    ]  # fmt: skip


_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "ggml_set_abort_callback": (c_void_p, [_ABORT]),
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG, c_void_p]),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_size": (c_uint64, [c_void_p]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_free": (None, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "llama_batch_get_one": (Batch, [POINTER(c_int32), c_int32]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
}

_said: list[str] = []


def reason() -> str:
    """What llama.cpp last called an error."""
    return "; ".join(_said) or "no reason given"


def _on_log(level: int, text: bytes, _data: object) -> None:
    if level == _ERROR:
        _said[:] = [*_said[-3:], text.decode(errors="replace").strip()]


def _on_abort(message: bytes) -> None:
    """llama.cpp found what cannot be: instead of SIGABRT and a core file, words and exit code 1."""
    os.write(2, b"m0-peer: INTERNAL: llama.cpp gave up: " + message + b"\n")
    os._exit(1)


_CALLBACKS: Final = (_LOG(_on_log), _ABORT(_on_abort))  # kept, for C holds no reference


@cache
def library() -> ctypes.CDLL:
    """The library, bound and checked.

    Raises:
        LoadError: not installed, another build, or another layout.
    """
    spec = importlib.util.find_spec("xllamacpp")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = [file for place in places for file in place.glob("xllamacpp*.so")]
    if len(found) != 1 or importlib.metadata.version("xllamacpp") != BUILD:
        raise LoadError(f"llama.cpp is missing or another build: {sys.executable} -m pip install xllamacpp=={BUILD}")
    lib = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    context, model = lib.llama_context_default_params(), lib.llama_model_default_params()
    seen: tuple[object, ...] = (
        context.n_ctx,
        context.n_batch,
        context.n_ubatch,
        context.flash_attn_type,
        context.yarn_beta_slow,
    )
    seen += (context.type_k, context.type_v, context.offload_kqv, context.op_offload, context.n_samplers)
    seen += (model.n_gpu_layers, model.load_mode, model.lazy_mode, model.use_extra_bufts, model.no_alloc)
    if seen != (512, 2048, 512, -1, -1.0, 1, 1, True, True, 0, -1, -1, 1, True, False):
        raise LoadError(f"llama.cpp's structures are laid out differently here: {seen}")
    lib.llama_log_set(_CALLBACKS[0], None)
    lib.ggml_set_abort_callback(_CALLBACKS[1])
    lib.llama_backend_init()
    return lib
