"""A plain numpy forward pass, written from the model's definition, to check the recorder with.

It shares nothing with transformers but the checkpoint's values and the rotary frequencies. In
float64 it also shows how far float32 rounding alone moves each result.
"""

import numpy as np


class PlainModel:
    """`weights`: name -> float32 array, as in the checkpoint; `shape`: the config's fields."""

    def __init__(self, weights, shape, inv_freq, attention_scaling, dtype=np.float64):
        self.weights = {name: value.astype(dtype) for name, value in weights.items()}
        self.layers = shape["num_hidden_layers"]
        self.heads = shape["num_attention_heads"]
        self.kv_heads = shape["num_key_value_heads"]
        self.head_dim = shape.get("head_dim") or shape["hidden_size"] // self.heads
        self.epsilon = dtype(shape["rms_norm_eps"])
        self.inv_freq = inv_freq.astype(np.float32)
        self.attention_scaling = np.float32(attention_scaling)
        self.dtype = dtype

    def norm(self, rows, name):
        mean = np.mean(rows * rows, axis=-1, keepdims=True)
        return rows / np.sqrt(mean + self.epsilon) * self.weights[name]

    def linear(self, rows, name):
        result = rows @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return result if bias is None else result + bias

    def rotate(self, heads, positions):
        """heads: (tokens, heads, D); the angle is a float32 product, as in transformers."""
        angle = positions.astype(np.float32)[:, None] * self.inv_freq[None, :]
        angle = angle.astype(self.dtype)
        cos = (np.cos(angle) * self.attention_scaling)[:, None, :]
        sin = (np.sin(angle) * self.attention_scaling)[:, None, :]
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)

    def project(self, layer, hidden, positions):
        """q (tokens, H, D), k and v (tokens, G, D); q and k after RoPE."""
        prefix = f"model.layers.{layer}."
        rows = self.norm(hidden, prefix + "input_layernorm.weight")
        attention = prefix + "self_attn."
        q = self.linear(rows, attention + "q_proj").reshape(len(rows), self.heads, self.head_dim)
        k = self.linear(rows, attention + "k_proj").reshape(len(rows), -1, self.head_dim)
        v = self.linear(rows, attention + "v_proj").reshape(len(rows), -1, self.head_dim)
        if attention + "q_norm.weight" in self.weights:
            q = self.norm(q, attention + "q_norm.weight")
            k = self.norm(k, attention + "k_norm.weight")
        return self.rotate(q, positions), self.rotate(k, positions), v

    def attend(self, q, k, v, allowed):
        """Returns (rows, H * D) and the mean over rows and heads of the largest probability."""
        groups = self.heads // self.kv_heads
        outputs, peaks = [], []
        for head in range(self.heads):
            keys, values = k[:, head // groups], v[:, head // groups]
            scores = q[:, head] @ keys.T / np.sqrt(self.dtype(self.head_dim))
            scores = np.where(allowed, scores, -np.inf)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            peaks.append(scores.max(axis=-1).mean())
            outputs.append(scores @ values)
        return np.concatenate(outputs, axis=-1), float(np.mean(peaks))

    def finish(self, layer, hidden, attended):
        prefix = f"model.layers.{layer}."
        hidden = hidden + self.linear(attended, prefix + "self_attn.o_proj")
        rows = self.norm(hidden, prefix + "post_attention_layernorm.weight")
        gate = self.linear(rows, prefix + "mlp.gate_proj")
        gate = gate / (1 + np.exp(-gate)) * self.linear(rows, prefix + "mlp.up_proj")
        return hidden + self.linear(gate, prefix + "mlp.down_proj")

    def embed(self, tokens):
        return self.weights["model.embed_tokens.weight"][tokens]

    def forward(self, tokens, allowed, zero_past=0):
        """`allowed`: (tokens, tokens), or (N, tokens, tokens) with one mask per layer. With
        zero_past = n, queries from n on see zeros for the keys and values before n."""
        positions = np.arange(len(tokens))
        allowed = np.broadcast_to(allowed, (self.layers, len(tokens), len(tokens)))
        hidden = self.embed(tokens)
        keys, values, peaks = [], [], []
        for layer in range(self.layers):
            q, k, v = self.project(layer, hidden, positions)
            keys.append(k)
            values.append(v)
            attended, peak = self.attend(q, k, v, allowed[layer])
            if zero_past:
                past = (positions < zero_past)[:, None, None]
                blind, _ = self.attend(q[zero_past:], np.where(past, 0, k), np.where(past, 0, v),
                                       allowed[layer, zero_past:])
                attended = np.concatenate((attended[:zero_past], blind))
            peaks.append(peak)
            hidden = self.finish(layer, hidden, attended)
        hidden = self.norm(hidden, "model.norm.weight")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return dict(key=np.stack(keys), value=np.stack(values), hidden=hidden,
                    logits=hidden @ head.T, peaks=peaks)


def relative_error(value, reference):
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))
