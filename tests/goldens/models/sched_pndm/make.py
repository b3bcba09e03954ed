"""Writes io.safetensors and scheduler_config.json beside this file: the steps of diffusers' PNDMScheduler as Stable
Diffusion 1 has it, under the stand-in for a model that the other sched_* goldens have: tanh(x) * (0.5 + t / 2000)."""
import os
import torch
from diffusers import PNDMScheduler
from safetensors.torch import save_file


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1234 + seed))


folder = os.path.dirname(os.path.abspath(__file__))
scheduler = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)
scheduler.set_timesteps(10)
start = normal(1, 1, 4, 8, 8)
samples, inputs = [start], []
for time in scheduler.timesteps:
    inputs.append(scheduler.scale_model_input(samples[-1], time))
    output = torch.tanh(inputs[-1]) * (0.5 + float(time) / 2000)
    samples.append(scheduler.step(output, time, samples[-1]).prev_sample)
noise, clean, times = normal(3, 2, 4, 8, 8), normal(4, 2, 4, 8, 8), scheduler.timesteps[[2, 5]]
save_file(
    {
        "in.noise0": start,
        "in.clean": clean,
        "in.noise": noise,
        "in.add_noise_timesteps": times.float(),
        "out.timesteps": scheduler.timesteps.float(),
        "out.samples": torch.stack(samples),
        "out.model_inputs": torch.stack(inputs),
        "out.init_noise_sigma": torch.tensor(1.0),
        "out.alphas_cumprod": scheduler.alphas_cumprod,
        "out.add_noise": scheduler.add_noise(clean, noise, times),
    },
    os.path.join(folder, "io.safetensors"),
)
scheduler.save_config(folder)
