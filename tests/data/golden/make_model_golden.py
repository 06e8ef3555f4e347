#!/usr/bin/env python3
"""Makes the models of golden/models: small random models of every shape that the loader must take, and what Hugging
Face transformers computes with them in fp32.

  pip install torch transformers safetensors numpy
  python3 tests/data/golden/make_model_golden.py

Each folder holds a model (config.json, weights) and golden.safetensors: input_ids (S, T), logits (S, kept, V) of the
last `kept` prompt positions, conv_states (L, S, D, K) and ssm_states (L, S, D, N) after the prompt, greedy (S, G): the
tokens that follow it. Made with transformers 5.24.0 and torch 2.15.0; other versions agree to rounding.
"""

import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent / "models"
GREEDY_TOKENS = 24

BASE = dict(vocab_size=61, hidden_size=24, num_hidden_layers=2, state_size=16, conv_kernel=4, expand=2)

# name: (falcon?, config, extras: prompt tokens, positions whose logits are kept, storage)
MODELS = {
    "state8-conv2-expand1": (False, dict(state_size=8, conv_kernel=2, expand=1, time_step_rank=3), {}),
    "state24-conv3-expand3-bias": (
        False,
        dict(state_size=24, conv_kernel=3, expand=3, use_bias=True, layer_norm_epsilon=1e-3),
        {},
    ),
    "conv5-no-conv-bias-untied": (
        False,
        dict(conv_kernel=5, use_conv_bias=False, tie_word_embeddings=False, rescale_prenorm_residual=True),
        {},
    ),
    "odd-widths": (False, dict(vocab_size=37, hidden_size=19, state_size=5, time_step_rank=7), {}),
    "long-prompt": (False, dict(), dict(tokens=4100, kept=8)),
    "half-shards": (False, dict(num_hidden_layers=3), dict(dtype=torch.float16, max_shard_size="12KB")),
    "falcon-state8-conv2-bias": (
        True,
        dict(state_size=8, conv_kernel=2, use_bias=True, time_step_rank=5, mixer_rms_eps=1e-5),
        {},
    ),
    "falcon-untied-long": (
        True,
        dict(tie_word_embeddings=False, use_conv_bias=False, conv_kernel=3),
        dict(tokens=600, kept=8),
    ),
}


def randomize(model, generator):
    """Moves every parameter off its default, biases and norms too, so that a forgotten one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.5 if name.endswith(("bias", "D", "norm.weight", "norm_f.weight")) else 0.1
            if "dt_proj.bias" in name or "A_log" in name:
                scale = 0.2
            parameter.add_(scale * noise)


def greedy(model, prompt):
    ids = prompt
    for _ in range(GREEDY_TOKENS):
        logits = model(ids, use_cache=False).logits[:, -1]
        best = logits.topk(2, dim=-1).values
        assert (best[:, 0] - best[:, 1]).min() > 1e-3, "a near tie: choose another seed"
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids[:, prompt.shape[1] :]


def states(cache, config):
    conv, ssm = [], []
    for layer in cache.layers:
        window = layer.conv_states[0]
        missing = config.conv_kernel - window.shape[-1]
        conv.append(torch.nn.functional.pad(window, (missing, 0)))
        ssm.append(layer.recurrent_states[0])
    return torch.stack(conv), torch.stack(ssm)


def make(name, falcon, overrides, extras, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    config = (FalconMambaConfig if falcon else MambaConfig)(**{**BASE, **overrides})
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = (FalconMambaForCausalLM if falcon else MambaForCausalLM)(config).float().eval()
    randomize(model, generator)
    if dtype := extras.get("dtype"):
        model.to(dtype).save_pretrained(folder, max_shard_size=extras["max_shard_size"])
        model.float()
    else:
        model.save_pretrained(folder)
    sequences = 1 if extras.get("tokens", 0) > 100 else 2
    ids = torch.randint(0, config.vocab_size, (sequences, extras.get("tokens", 21)), generator=generator)
    with torch.no_grad():
        out = model(ids, use_cache=True)
        conv, ssm = states(out.cache_params, config)
        tokens = greedy(model, ids)
    kept = extras.get("kept", ids.shape[1])
    save_file(
        {
            "input_ids": ids.int(),
            "logits": out.logits[:, -kept:].float().contiguous(),
            "conv_states": conv.float().contiguous(),
            "ssm_states": ssm.float().contiguous(),
            "greedy": tokens.int().contiguous(),
        },
        folder / "golden.safetensors",
    )
    print(name, f"max |logit| {out.logits.abs().max():.2f}", f"max |state| {ssm.abs().max():.3f}")


def main():
    for seed, (name, (falcon, overrides, extras)) in enumerate(MODELS.items()):
        make(name, falcon, overrides, extras, seed)


if __name__ == "__main__":
    main()
