"""The other side of `benchmarks.gpu`, diffusers in PyTorch: a process of its own, see `gpu_worker`.

  python -m benchmarks.gpu_peer

Needs torch and diffusers, and nothing of vidjax: weights and inputs are in files. B clips, T
frames, H W latent height and width, Z latent channels.
"""

import json
import time
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks import gpu_worker
from benchmarks.gpu_worker import Answer, Run

_WARM = 2  # calls before the first that counts, after that which compiles
_MANY = 10  # calls of attention for one of a step
_DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_COMPILERS = {"torch.compile": "inductor", "traced": "eager", "eager": None}


def _synchronize() -> None:
  if _DEVICE.type == "cuda":
    torch.cuda.synchronize()


def _timed(call: Any, calls: int) -> float:
  """Seconds of a call, of so many that are launched one after the other."""
  _synchronize()
  began = time.perf_counter()
  for _ in range(calls):
    call()
  _synchronize()
  return (time.perf_counter() - began) / calls


def _device() -> Answer:
  cuda = _DEVICE.type == "cuda"
  return {
    "device": torch.cuda.get_device_name() if cuda else "cpu",
    "software": f"torch {torch.__version__}, diffusers {diffusers.__version__}",
    "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
  }


def _prepare() -> None:
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision("high")
  if _DEVICE.type == "cuda":
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def _compiled(module: Any, compiler: str) -> Any:
  torch._dynamo.reset()
  backend = _COMPILERS[compiler]
  return torch.compile(module, backend=backend) if backend else module


def _read(path: str) -> dict[str, torch.Tensor]:
  """Arrays (B, T, H, W, Z) come as (B, T, Z, H, W)."""
  with np.load(path) as file:
    arrays = {name: torch.from_numpy(file[name]).to(_DEVICE) for name in file}
  return {name: x.permute(0, 1, 4, 2, 3) if x.ndim == 5 else x for name, x in arrays.items()}


def train(
  folder: str,
  clips: int,
  dtype: str,
  precision: str,
  checkpointing: bool,
  compiler: str,
  optimizer: dict[str, float],
) -> tuple[Answer, Run]:
  """The UNet's step with AdamW, weights in float32.

  Args:
    folder: of weights and inputs.
    clips: B.
    dtype: of the computation.
    precision: "copies": the network holds weights in `dtype`, unless that is float32, which the
      optimizer's are copied to after each step; "autocast": PyTorch casts them where they are used.
    checkpointing: diffusers' own gradient checkpointing.
    compiler: of `_COMPILERS`.
    optimizer: learning_rate, weight_decay, clip_norm.
  """
  _prepare()
  wide = getattr(torch, dtype)
  unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(f"{folder}/text_to_video")
  unet = unet.to(_DEVICE).train()
  if checkpointing:
    unet.enable_gradient_checkpointing()
  weights = list(unet.parameters())
  copies = precision == "copies" and wide != torch.float32
  masters = [w.detach().clone().requires_grad_() for w in weights] if copies else weights
  if copies:
    unet.to(wide)
  decays = optimizer["weight_decay"]
  adamw = torch.optim.AdamW(
    [
      {"params": [w for w in masters if w.ndim > 1], "weight_decay": decays},
      {"params": [w for w in masters if w.ndim <= 1], "weight_decay": 0.0},
    ],
    lr=optimizer["learning_rate"],
    fused=True,
  )
  model = _compiled(unet, compiler)
  given = _read(f"{folder}/train_{clips}.npz")
  inner = wide if copies else torch.float32
  context, vector = given["context"].to(inner), given["vector"].to(inner)

  def loss_of() -> torch.Tensor:
    """SVD's loss: what is left of v, each clip at its level."""
    sigma_B = given["sigma"].reshape(-1, 1, 1, 1, 1)
    norm_B = torch.rsqrt(1 + sigma_B**2)
    noisy = given["x0"] + sigma_B * given["noise"]
    target = (given["noise"] - sigma_B * given["x0"]) * norm_B
    c_noise = 0.25 * torch.log(given["sigma"])
    with torch.autocast(_DEVICE.type, wide, enabled=precision == "autocast"):
      v = model((noisy * norm_B).to(inner), c_noise, context, vector, return_dict=False)[0]
    return (v.float() - target).square().mean()

  def step() -> torch.Tensor:
    loss = loss_of()
    loss.backward()
    if copies:
      for master, weight in zip(masters, weights, strict=True):
        assert weight.grad is not None
        master.grad, weight.grad = weight.grad.float(), None
    torch.nn.utils.clip_grad_norm_(masters, optimizer["clip_norm"], foreach=True)
    adamw.step()
    adamw.zero_grad(set_to_none=True)
    if copies:
      with torch.no_grad():
        torch._foreach_copy_(weights, masters)
    return loss.detach()

  began = time.perf_counter()
  first = float(step())
  seconds = time.perf_counter() - began
  for _ in range(_WARM):
    step()
  count = sum(w.numel() for w in weights)
  facts = {"compile_seconds": seconds, "first_loss": first, "parameters": count, "clips": clips}
  return facts, lambda calls: {"times": {"step": _timed(step, calls)}} | _device()


def sample(folder: str, frames: int, dtype: str, chunk: int, steps: int, compiler: str):
  """The loop of `StableVideoDiffusionPipeline` around the UNet, and its decoder, uncompiled.

  Args:
    folder: of weights and inputs.
    frames: T.
    dtype: of everything.
    chunk: frames that are decoded at once.
    steps: of the sampler.
    compiler: of `_COMPILERS`.
  """
  _prepare()
  kind = getattr(torch, dtype)
  unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(f"{folder}/image_to_video")
  decoder = diffusers.AutoencoderKLTemporalDecoder.from_pretrained(f"{folder}/vae")
  model = _compiled(unet.to(_DEVICE, kind), compiler)
  decoder = decoder.to(_DEVICE, kind)
  with open(f"{folder}/scheduler/scheduler_config.json") as file:
    scheduler = diffusers.EulerDiscreteScheduler.from_config(json.load(file))
  given = {name: x.to(kind) for name, x in _read(f"{folder}/sample_{frames}.npz").items()}
  context, concat = (
    torch.cat([torch.zeros_like(given[name]), given[name]]) for name in ("context", "concat")
  )
  vector, scale = torch.cat([given["vector"]] * 2), given["scale"].reshape(1, -1, 1, 1, 1)

  @torch.no_grad()
  def latents() -> torch.Tensor:
    scheduler.set_timesteps(steps, device=_DEVICE)
    x = given["noise"] * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
      both = scheduler.scale_model_input(torch.cat([x] * 2), t)
      both = torch.cat([both, concat], dim=2)
      v = model(both, t, context, vector, return_dict=False)[0]
      without, with_it = v.chunk(2)
      x = scheduler.step(without + scale * (with_it - without), t, x).prev_sample
    return x

  @torch.no_grad()
  def decode(x: torch.Tensor) -> list[torch.Tensor]:
    raw = x.flatten(0, 1) / decoder.config.scaling_factor
    return [
      (decoder.decode(part, num_frames=len(part)).sample.float() * 0.5 + 0.5).clamp(0, 1)
      for part in raw.split(chunk)
    ]

  began = time.perf_counter()
  found = latents()
  _synchronize()
  seconds = time.perf_counter() - began
  decode(found)
  path = f"{folder}/sample_{frames}_diffusers.npy"
  np.save(path, found.float().permute(0, 1, 3, 4, 2).cpu().numpy())

  def run(calls: int) -> Answer:
    times = {"latents": _timed(latents, calls), "decode": _timed(lambda: decode(found), calls)}
    times["both"] = times["latents"] + times["decode"]
    return {"times": times, "latents": path} | _device()

  return {"compile_seconds": seconds, "clips": 1}, run


def attention(shapes: list[Any], dtype: str) -> tuple[Answer, Run]:
  """PyTorch's own, without its gradient and with it.

  Args:
    shapes: names, whether frames attend or positions, and (T, S, N, D).
    dtype: of the arrays.
  """
  _prepare()
  forwards, both = {}, {}
  for name, over_time, shape in shapes:
    arrays = [torch.randn(shape, device=_DEVICE, dtype=getattr(torch, dtype)) for _ in range(4)]
    *inputs, dy = (x.requires_grad_(i < 3) for i, x in enumerate(arrays))
    order = (1, 2, 0, 3) if over_time else (0, 2, 1, 3)  # (batch, N, L, D)
    back = (2, 0, 1, 3) if over_time else (0, 2, 1, 3)

    def forward(inputs: Any = inputs, order: Any = order, back: Any = back) -> torch.Tensor:
      q, k, v = (x.permute(order) for x in inputs)
      return torch.nn.functional.scaled_dot_product_attention(q, k, v).permute(back)

    def gradients(forward: Any = forward, inputs: Any = inputs, dy: Any = dy) -> None:
      torch.autograd.grad(forward(), inputs, dy)

    forwards[f"{name}, forward"], both[f"{name}, both"] = forward, gradients

  def run(calls: int) -> Answer:
    for call in both.values():
      call()
    with torch.no_grad():
      times = {name: _timed(call, _MANY * calls) for name, call in forwards.items()}
    times |= {name: _timed(call, _MANY * calls) for name, call in both.items()}
    return {"times": times} | _device()

  return {}, run


if __name__ == "__main__":
  gpu_worker.serve({"train": train, "sample": sample, "attention": attention})
