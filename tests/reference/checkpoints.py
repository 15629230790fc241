"""Makes small random checkpoints with transformers, and loads them in float32."""

import json
import shutil

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import cases


def expect(condition, text):
    if not condition:
        raise RuntimeError(text)


def random_model(name, case):
    config = CONFIG_MAPPING[case["model_type"]](**case["config"], **cases.NO_TOKENS)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            parameter.copy_(torch.from_numpy(cases.random_tensor(name, case, key, shape)))
    return model.to(getattr(torch, case["dtype"]))


def save_checkpoint(model, case, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder, max_shard_size=case.get("shard_size", "50GB"))
    for file in folder.iterdir():
        if file.name != "config.json" and ".safetensors" not in file.name:
            file.unlink()
    change_config(folder, cases.NO_TOKENS)


def change_config(folder, changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_checkpoint(folder, attention="eager"):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=attention)
    expect(model.dtype == torch.float32, f"{folder}: loaded as {model.dtype}")
    expect(model.config.eos_token_id is None, f"{folder}: has an end token")
    return model.eval()


def write_old_config(folder):
    """config.old.json: the spelling before transformers 5."""
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    spelling = "type" if kind == "linear" else "rope_type"
    config["rope_scaling"] = None if kind == "default" else {spelling: kind, **rope}
    config["torch_dtype"] = config.pop("dtype", None)
    if config.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]:
        del config["head_dim"]
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "config.old.json").write_text(text + "\n")
