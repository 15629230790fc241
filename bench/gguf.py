"""Writes a Qwen2 checkpoint as a GGUF file, for llama.cpp (format: version 3).

All matrices get one type. The embedding, which is the LM head too, is q8_0 in a q4_0 file; norms and
biases are f32. The vocabulary is bytes and made-up words: token ids go in and come out."""

import json
import pathlib
import struct

import numpy as np

from support.checkpoint import encode, read_raw_safetensors

ALIGNMENT = 32
BLOCK = 32  # values that share a scale in q4_0 and q8_0
# Of a tensor, and of a file that mostly has such tensors.
TENSOR_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "bf16": 32}
TENSORS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
LAYER_TENSORS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def quantise_q4_0(values):
    """Per block: an f16 scale d and 32 q of 4 bits, value = d (q - 8); the largest has q 0."""
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    scale = largest / -8
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    q = np.minimum(blocks * inverse + 8.5, 15).astype(np.uint8)
    return packed(scale, q[:, :16] | q[:, 16:] << 4)


def quantise_q8_0(values):
    """Per block: an f16 scale d and 32 q of 8 bits, value = d q."""
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, BLOCK)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return packed(scale, np.rint(blocks * inverse).astype(np.int8).view(np.uint8))


def packed(scale, q):
    return np.hstack([scale.astype("<f2").view(np.uint8), q]).tobytes()


def dequantise_q4_0(data):
    rows = np.frombuffer(data, np.uint8).reshape(-1, 2 + BLOCK // 2)
    scale = rows[:, :2].copy().view("<f2").astype(np.float32)
    q = np.hstack([rows[:, 2:] & 15, rows[:, 2:] >> 4])
    return (scale * (q.astype(np.float32) - 8)).reshape(-1)


def encoded(values, kind):
    quantise = {"q4_0": quantise_q4_0, "q8_0": quantise_q8_0}.get(kind)
    return quantise(values) if quantise else encode(values, kind)


def gguf_name(name):
    base, suffix = name.rsplit(".", 1)
    if base in TENSORS:
        return f"{TENSORS[base]}.{suffix}"
    _, _, layer, part = base.split(".", 3)
    return f"blk.{layer}.{LAYER_TENSORS[part]}.{suffix}"


def tensor_type(name, shape, kind):
    if len(shape) == 1:
        return "f32"
    return "q8_0" if kind == "q4_0" and name.startswith("token_embd") else kind


def bytes_of(shape, kind):
    values = int(np.prod(shape))
    return {"q4_0": values * 18 // 32, "q8_0": values * 34 // 32, "f32": values * 4}.get(kind, values * 2)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def array(element, items):
    return struct.pack("<IIQ", 9, element, len(items)) + b"".join(items)


def entry(key, value):
    if isinstance(value, bytes):
        return string(key) + value
    if isinstance(value, str):
        return string(key) + struct.pack("<I", 8) + string(value)
    if isinstance(value, float):
        return string(key) + struct.pack("<If", 6, value)
    return string(key) + struct.pack("<II", 4, value)


def vocabulary(size):
    """The smallest that llama.cpp and node-llama-cpp load: of the kind of SentencePiece."""
    words = [f"<0x{i:02X}>" if i < 256 else f"w{i}" for i in range(size)]
    kinds = [6 if i < 256 else 1 for i in range(size)]  # byte, normal
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": array(8, [string(word) for word in words]),
        "tokenizer.ggml.scores": array(6, [bytes(4)] * size),
        "tokenizer.ggml.token_type": array(5, [struct.pack("<i", kind) for kind in kinds]),
    }


def metadata(config, kind):
    entries = {
        "general.architecture": "qwen2",
        "general.name": "random",
        "general.alignment": ALIGNMENT,
        "general.file_type": FILE_TYPES[kind],
        "qwen2.block_count": config["num_hidden_layers"],
        "qwen2.context_length": 1 << 20,
        "qwen2.embedding_length": config["hidden_size"],
        "qwen2.feed_forward_length": config["intermediate_size"],
        "qwen2.attention.head_count": config["num_attention_heads"],
        "qwen2.attention.head_count_kv": config["num_key_value_heads"],
        "qwen2.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "qwen2.rope.freq_base": float(config["rope_theta"]),
        **vocabulary(config["vocab_size"]),
    }
    return len(entries), b"".join(entry(*item) for item in entries.items())


def write_gguf(path, checkpoint, kind):
    """Converts the folder `checkpoint` (bf16, one file) to `path` with matrices of type `kind`."""
    checkpoint = pathlib.Path(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    header, data = read_raw_safetensors(checkpoint / "model.safetensors")
    tensors, offset, infos = [], 0, b""
    for name, info in header.items():
        out, shape = gguf_name(name), info["shape"]
        stored = tensor_type(out, shape, kind)
        tensors.append((info["data_offsets"], stored))
        infos += string(out) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape),
                                           TENSOR_TYPES[stored], offset)
        offset += bytes_of(shape, stored) + -bytes_of(shape, stored) % ALIGNMENT
    entries, text = metadata(config, kind)
    text = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), entries) + text + infos
    partial = pathlib.Path(f"{path}.partial")
    with partial.open("wb") as file:
        file.write(text + bytes(-len(text) % ALIGNMENT))
        for (begin, end), stored in tensors:
            bits = np.frombuffer(data, "<u2", (end - begin) // 2, begin).astype(np.uint32) << 16
            content = encoded(bits.view(np.float32), stored)
            file.write(content + bytes(-len(content) % ALIGNMENT))
    partial.rename(path)
    return path
