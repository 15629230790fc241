"""A Llama-style transformer in plain PyTorch, and its checkpoint as transformers saves it."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.checkpoint import read_tensor, write_safetensors  # noqa: E402


@dataclass
class Shape:
    vocabulary: int
    hidden: int = 192
    layers: int = 14
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    feed_forward: int = 256
    theta: float = 1e6
    epsilon: float = 1e-5


def rms_norm(x, weight, epsilon):
    wide = widened(x)
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight.to(x.dtype)


def rotary(shape, positions):
    """(cosines, sines) of (T, D / 2) for the positions (T), from angles in f32 as transformers has them:
    beyond a thousand tokens exact ones give hidden states that differ by more than f32 rounding."""
    exponents = torch.arange(0, shape.head_dim, 2, device=positions.device).float() / shape.head_dim
    angles = positions.float()[:, None] * (1.0 / shape.theta ** exponents)
    return angles.cos(), angles.sin()


def widened(x):
    return x if x.dtype == torch.float64 else x.float()


def turn(x, rope):
    """RoPE over halves, as transformers has it; x (..., T, D)."""
    wide = widened(x)
    cosine, sine = (part.to(wide.dtype) for part in rope)
    first, second = wide.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        e, f = shape.hidden, shape.feed_forward
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        for name, outputs, inputs in (("q_proj", queries, e), ("k_proj", keys, e), ("v_proj", keys, e),
                                      ("o_proj", e, queries), ("gate_proj", f, e), ("up_proj", f, e),
                                      ("down_proj", e, f)):
            linear = nn.Linear(inputs, outputs, bias=False)
            scale = inputs ** -0.5
            if name in ("o_proj", "down_proj"):
                scale *= (2 * shape.layers) ** -0.5
            nn.init.normal_(linear.weight, std=scale)
            setattr(self, name, linear)
        self.input_layernorm = nn.Parameter(torch.ones(e))
        self.post_attention_layernorm = nn.Parameter(torch.ones(e))

    def forward(self, x, rope, attend, mask):
        """x (B, T, E); attend(q (B, H, T, D), k, v (B, G, T, D), mask) gives (B, H, T, D)."""
        s = self.shape
        b, t, _ = x.shape
        normed = rms_norm(x, self.input_layernorm, s.epsilon)
        q, k, v = (linear(normed).view(b, t, -1, s.head_dim).transpose(1, 2)
                   for linear in (self.q_proj, self.k_proj, self.v_proj))
        attended = attend(turn(q, rope), turn(k, rope), v, mask)
        x = x + self.o_proj(attended.transpose(1, 2).reshape(b, t, -1))
        normed = rms_norm(x, self.post_attention_layernorm, s.epsilon)
        return x + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * shape.hidden ** -0.5)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))

    def forward(self, ids, rope, attend, mask):
        """Final hidden states (B, T, E) of ids (B, T)."""
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = layer(x, rope, attend, mask)
        return rms_norm(x, self.norm, self.shape.epsilon)

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.to(hidden.dtype))


def dense_attention(q, k, v, allowed):
    """Attention under a mask (T, T) of bool."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1).to(v.dtype) @ v


def names(shape):
    """(name in the checkpoint, name here) of every tensor."""
    yield "model.embed_tokens.weight", "embedding"
    yield "model.norm.weight", "norm"
    for layer in range(shape.layers):
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"model.layers.{layer}.self_attn.{part}.weight", f"layers.{layer}.{part}.weight"
        for part in ("gate_proj", "up_proj", "down_proj"):
            yield f"model.layers.{layer}.mlp.{part}.weight", f"layers.{layer}.{part}.weight"
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{part}.weight", f"layers.{layer}.{part}"


def save(model, folder, vocabulary, pattern, positions):
    """config.json, model.safetensors in bf16, tokenizer.json. `pattern`: of config.json's
    power_attention; `positions`: the longest prompt that the model was trained for."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    s = model.shape
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": s.vocabulary,
        "hidden_size": s.hidden, "intermediate_size": s.feed_forward, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "hidden_act": "silu", "rms_norm_eps": s.epsilon, "rope_theta": s.theta,
        "max_position_embeddings": positions, "tie_word_embeddings": True, "attention_bias": False,
        "mlp_bias": False, "torch_dtype": "bfloat16", "bos_token_id": None, "eos_token_id": vocabulary.end,
        "power_attention": pattern,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    state = model.state_dict()
    write_safetensors(folder / "model.safetensors",
                      {name: state[ours].detach().float().cpu().numpy() for name, ours in names(s)}, "bf16")
    vocabulary.write(folder)


def load(folder):
    """The model of a checkpoint, with f32 weights."""
    config = json.loads(Path(folder, "config.json").read_text())
    shape = Shape(vocabulary=config["vocab_size"], hidden=config["hidden_size"],
                  layers=config["num_hidden_layers"], heads=config["num_attention_heads"],
                  kv_heads=config["num_key_value_heads"], head_dim=config["head_dim"],
                  feed_forward=config["intermediate_size"], theta=config["rope_theta"],
                  epsilon=config["rms_norm_eps"])
    model = Model(shape)
    model.load_state_dict({ours: torch.from_numpy(read_tensor(folder, name).copy())
                           for name, ours in names(shape)})
    return model


def describe(shape):
    return ", ".join(f"{name} {value}" for name, value in asdict(shape).items())
