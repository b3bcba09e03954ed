"""In torch, the network of the terrain weights."""


def guided_unet(folder):
    """The UNet of guided-diffusion (Dhariwal & Nichol 2021) that the terrain weights are for."""
    import json
    import math

    import safetensors.torch
    import torch
    from torch import nn
    from torch.nn import functional

    config = json.load(open(f"{folder}/config.json"))
    norm = lambda channels: nn.GroupNorm(config["norm_groups"], channels, config["norm_eps"])

    class Residual(nn.Module):
        def __init__(self, inputs, outputs, embedding, resample=None):
            super().__init__()
            convolution = lambda inputs: nn.Conv2d(inputs, outputs, 3, padding=1)
            self.resample = resample or nn.Identity()
            self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), convolution(inputs))
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs))
            self.out_layers = nn.Sequential(
                norm(outputs), nn.SiLU(), nn.Identity(), convolution(outputs)
            )
            same = inputs == outputs
            self.skip_connection = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x, embedding):
            hidden = self.in_layers[2](self.resample(self.in_layers[1](self.in_layers[0](x))))
            scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, 1)
            hidden = self.out_layers[0](hidden) * (1 + scale) + shift
            return self.skip_connection(self.resample(x)) + self.out_layers[1:](hidden)

    class Attention(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.heads = channels // config["num_head_channels"]
            self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
            self.proj_out = nn.Conv2d(channels, channels, 1)

        def forward(self, x, _):
            batch, _, height, width = x.shape
            fused = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
            heads = functional.scaled_dot_product_attention(*fused.transpose(-1, -2).unbind(1))
            return x + self.proj_out(heads.transpose(-1, -2).reshape(x.shape))

    class Convolution(nn.Conv2d):
        def forward(self, x, _):
            return super().forward(x)

    class GuidedUNet(nn.Module):
        def __init__(self):
            super().__init__()
            base, attended = config["model_channels"], config["attention_levels"]
            widths = [base * factor for factor in config["channel_mult"]]
            embedding, blocks = 4 * base, config["num_res_blocks"]
            mlp = lambda inputs: nn.Sequential(
                nn.Linear(inputs, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
            )
            self.base, self.time_embed, self.label_emb = base, mlp(base), mlp(1)
            block, here = nn.ModuleList, base
            self.input_blocks, skips = block([block([Convolution(1, base, 3, padding=1)])]), [base]
            for level, width in enumerate(widths):
                for _ in range(blocks):
                    layers, here = [Residual(here, width, embedding)], width
                    layers += [Attention(here)] if level in attended else []
                    self.input_blocks.append(block(layers))
                    skips.append(here)
                if level + 1 < len(widths):
                    down = Residual(here, here, embedding, nn.AvgPool2d(2))
                    self.input_blocks.append(block([down]))
                    skips.append(here)
            self.middle_block = block(
                [Residual(here, here, embedding), Attention(here), Residual(here, here, embedding)]
            )
            self.output_blocks = block()
            for level, width in reversed(list(enumerate(widths))):
                for index in range(blocks + 1):
                    layers, here = [Residual(here + skips.pop(), width, embedding)], width
                    layers += [Attention(here)] if level in attended else []
                    if level and index == blocks:
                        layers.append(Residual(here, here, embedding, nn.Upsample(scale_factor=2)))
                    self.output_blocks.append(block(layers))
            last = nn.Conv2d(here, config["out_channels"], 3, padding=1)
            self.out = nn.Sequential(norm(here), nn.SiLU(), last)

        def forward(self, sample, times, labels):
            half = self.base // 2
            angles = times[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
            waves = torch.cat([angles.cos(), angles.sin()], -1)
            embedding = self.time_embed(waves) + self.label_emb(labels[:, None])
            skips, x = [], sample
            for layers in self.input_blocks:
                for layer in layers:
                    x = layer(x, embedding)
                skips.append(x)
            for layer in self.middle_block:
                x = layer(x, embedding)
            for layers in self.output_blocks:
                x = torch.cat([x, skips.pop()], 1)
                for layer in layers:
                    x = layer(x, embedding)
            return self.out(x)

    unet = GuidedUNet()
    unet.load_state_dict(safetensors.torch.load_file(f"{folder}/model.safetensors"))
    return unet
