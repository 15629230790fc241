"""Records rotary frequencies as transformers computes them, bit for bit.

torch's vectorised powers are up to one unit in the last place off, not the same ones for AVX2 and
AVX-512. Its scalar kernels give correctly rounded powers; those are the reference, and where the
others differ is recorded beside it.
"""

import json
import os
import subprocess
import sys

import numpy as np

SCALINGS = [
    dict(rope_type="default"),
    dict(rope_type="linear", factor=4.0),
    dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
         original_max_position_embeddings=8192),
    dict(rope_type="llama3", factor=32.0, low_freq_factor=1.5, high_freq_factor=3.0,
         original_max_position_embeddings=4096),
    dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32768),
    dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, mscale=1.0,
         mscale_all_dim=0.8, beta_fast=24.0, beta_slow=2.0),
    dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=4096, truncate=False,
         attention_factor=1.25),
]


def entries_of_this_process():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    entries = []
    for theta in (10000.0, 150000.0, 500000.0, 1000000.0):
        for head_dim in (16, 24, 32, 64, 80, 96, 128):
            for scaling in SCALINGS:
                original = scaling.get("original_max_position_embeddings", 32768)
                positions = int(original * scaling.get("factor", 1.0))
                config = CONFIG_MAPPING["llama"](
                    hidden_size=2 * head_dim, num_attention_heads=2, head_dim=head_dim,
                    max_position_embeddings=positions,
                    rope_parameters=dict(scaling, rope_theta=theta))
                rotary = LlamaRotaryEmbedding(config)
                bits = rotary.inv_freq.numpy().astype(np.float32).view(np.uint32)
                entries.append(dict(
                    head_dim=head_dim, max_position_embeddings=positions,
                    rope_parameters=dict(config.rope_parameters),
                    attention_scaling=float(rotary.attention_scaling),
                    inv_freq_bits=bits.tolist()))
    return entries


def entries_with(kernels):
    """The entries when torch uses these kernels; it reads the choice once, when it is loaded."""
    environment = dict(os.environ, ATEN_CPU_CAPABILITY=kernels)
    result = subprocess.run([sys.executable, __file__], env=environment, check=True,
                            stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def rounded_powers(entry):
    """inv_freq of the default type with powers rounded once from float64."""
    head_dim, theta = entry["head_dim"], entry["rope_parameters"]["rope_theta"]
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    power = np.power(theta, exponent.astype(np.float64)).astype(np.float32)
    return (np.float32(1.0) / power).view(np.uint32).tolist()


def record_rope(folder):
    entries = entries_with("default")
    for kernels in ("avx2", "avx512"):
        for entry, other in zip(entries, entries_with(kernels), strict=True):
            pairs = zip(entry["inv_freq_bits"], other["inv_freq_bits"], strict=True)
            entry[f"{kernels}_differs"] = {
                str(index): theirs for index, (ours, theirs) in enumerate(pairs) if ours != theirs}
    off = [entry for entry in entries if entry["rope_parameters"]["rope_type"] == "default"
           and entry["inv_freq_bits"] != rounded_powers(entry)]
    lines = ",\n".join(json.dumps(entry, sort_keys=True) for entry in entries)
    path = folder / "recorded" / "rope.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"rope.json: {len(entries)} entries, {path.stat().st_size} bytes; of the default type "
          f"{len(off)} are not correctly rounded powers", flush=True)


if __name__ == "__main__":
    print(json.dumps(entries_of_this_process()))
