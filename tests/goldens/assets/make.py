"""What transformers and diffusers compute with the models in `assets/`: `python make.py ROOT`, ROOT of the repository.

float32 on one CPU thread, seeded, repeatable to the bit. Writes NAME.safetensors beside itself in ROOT: inputs `in.*`,
outputs `out.*`, and no weights. A model that does not find exactly its own weights in the folder is an error.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import diffusers
import torch
import transformers
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, ViTForImageClassification

ROOT = Path(sys.argv[1])
ASSETS = ROOT / "assets"
GOLDENS = ROOT / "tests/goldens/assets"
SEED = 1234

TEXT = "ROMEO:\nBut, soft! what light through yonder window breaks?\nIt is"
PROMPT, NEW = 16, 24

DIGITS, ANY = [3, 7], 10
STEPS, GUIDANCE = 10, 2.0


def generator(seed):
    return torch.Generator().manual_seed(SEED + seed)


def load(kind, name, **options):
    """The model of a folder; all of its weights are read from there, and nothing else is there."""
    model, loading = kind.from_pretrained(ASSETS / name, output_loading_info=True, **options)
    print(name, {what: sorted(map(str, problems)) for what, problems in loading.items()})
    assert {"missing_keys", "unexpected_keys", "mismatched_keys"} <= loading.keys()
    assert not any(loading.values()), loading
    assert all(weights.dtype == torch.float32 for weights in model.parameters())
    return model.eval()


def save(name, inputs, outputs, metadata=None):
    tensors = {f"in.{key}": value for key, value in inputs.items()}
    tensors |= {f"out.{key}": value for key, value in outputs.items()}
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    for key, value in tensors.items():
        assert not value.is_floating_point() or value.isfinite().all(), key
        print("   ", key, value.dtype, list(value.shape))
    save_file(tensors, GOLDENS / f"{name}.safetensors", metadata=metadata)


def images():
    """Grey noise with strokes in it: a bar, a ring, a seven and a bar that lies."""
    pixels = 0.2 * torch.rand(4, 1, 28, 28, generator=generator(1))
    pixels[0, 0, 5:23, 13:16] = 1.0
    pixels[1, 0, 5:23, 8:20] = 1.0
    pixels[1, 0, 8:20, 11:17] = 0.0
    pixels[2, 0, 5:8, 8:20] = 1.0
    for row in range(8, 23):
        column = 18 - (row - 8) // 2
        pixels[2, 0, row, column : column + 3] = 1.0
    pixels[3, 0, 13:16, 5:23] = 1.0
    return (pixels - 0.1307) / 0.3081


@torch.no_grad()
def digits_vit():
    model = load(
        ViTForImageClassification, "digits-vit", dtype=torch.float32, attn_implementation="eager"
    )
    pixels = images()
    outputs = {
        "last_hidden_state": model.vit(pixel_values=pixels).last_hidden_state,
        "logits": model(pixel_values=pixels).logits,
    }
    save("digits-vit", {"pixel_values": pixels}, outputs)


@torch.no_grad()
def shakespeare_llama():
    name = "shakespeare-llama"
    model = load(LlamaForCausalLM, name, dtype=torch.float32, attn_implementation="eager")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ASSETS / name / "tokenizer.json"))
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    assert ids.shape == (1, len(TEXT)) == (1, 64) and tokenizer.decode(ids[0]) == TEXT
    # A configuration without them has 1 and 2 for transformers, which are " " and "!" here.
    model.generation_config.bos_token_id = None
    model.generation_config.eos_token_id = None
    asked = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    prompt = ids[:, :PROMPT]
    shown = torch.ones_like(prompt)
    generated = model.generate(input_ids=prompt, attention_mask=shown, **asked)
    again = model.generate(input_ids=prompt, attention_mask=shown, use_cache=False, **asked)
    assert generated.shape == (1, PROMPT + NEW) and torch.equal(generated, again)
    print("   ", repr(tokenizer.decode(generated[0])))
    outputs = {
        "last_hidden_state": model.model(input_ids=ids).last_hidden_state,
        "logits": model(input_ids=ids).logits,
        "generated": generated,
    }
    save(name, {"input_ids": ids}, outputs, {"text": TEXT})


@torch.no_grad()
def digits_unet():
    model = load(UNet2DModel, "digits-unet", torch_dtype=torch.float32, low_cpu_mem_usage=False)
    inputs = {
        "sample": torch.randn(2, 4, 14, 14, generator=generator(2)),
        "timesteps": torch.tensor([999, 250]),
        "class_labels": torch.tensor([3, ANY]),
        "start": torch.randn(len(DIGITS), 4, 14, 14, generator=generator(3)),
    }
    output = model(inputs["sample"], inputs["timesteps"], class_labels=inputs["class_labels"]).sample

    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=True,
        clip_sample_range=1.0,
    )
    scheduler.set_timesteps(STEPS)
    classes = torch.tensor(DIGITS + [ANY] * len(DIGITS))
    sample, steps = inputs["start"], []
    for time in scheduler.timesteps:
        both = model(torch.cat([sample, sample]), time, class_labels=classes).sample
        asked, free = both.chunk(2)
        guided = free + (asked - free) * GUIDANCE
        options = {"eta": 0.0, "use_clipped_model_output": True}
        sample = scheduler.step(guided, time, sample, **options).prev_sample
        steps.append(sample)
    outputs = {"output": output, "steps_timesteps": scheduler.timesteps, "steps": torch.stack(steps)}
    save("digits-unet", inputs, outputs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*(f"{kind.__name__} {kind.__version__}" for kind in (torch, transformers, diffusers)))
    digits_vit()
    shakespeare_llama()
    digits_unet()
