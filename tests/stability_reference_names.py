"""What parameters are called in the two layouts, written down by hand and apart from our tables.

Block by block, as the two code bases name them.
"""

import re

# (blocks with attention on the way down, of SVD and Stable Diffusion 2.1; two layers a level)
_ATTENTION_UP = (False, True, True, True)
_BLOCK = {
  "norm1": "in_layers.0",
  "conv1": "in_layers.2",
  "time_emb_proj": "emb_layers.1",
  "norm2": "out_layers.0",
  "conv2": "out_layers.3",
  "conv_shortcut": "skip_connection",
}
_FIRST_LAST = {
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
  "conv_in": "input_blocks.0.0",
  "conv_norm_out": "out.0",
  "conv_out": "out.2",
}


def unet(name: str) -> str:
  """Stability's name of a parameter of diffusers' UNet, without prefix."""
  module, leaf = name.rsplit(".", 1)
  if module in _FIRST_LAST:
    return f"{_FIRST_LAST[module]}.{leaf}"
  if m := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv", module):
    return f"input_blocks.{3 * int(m[1]) + 3}.0.op.{leaf}"
  if m := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv", module):
    place = 2 if _ATTENTION_UP[int(m[1])] else 1
    return f"output_blocks.{3 * int(m[1]) + 2}.{place}.conv.{leaf}"
  m = re.fullmatch(r"(down|up|mid)_blocks?\.?(\d)?\.(resnets|attentions)\.(\d)\.(.*)", name)
  assert m, name
  way, level, kind, i, rest = m[1], int(m[2] or 0), m[3], int(m[4]), m[5]
  if way == "mid":
    block = f"middle_block.{1 if kind == 'attentions' else 2 * i}"
  else:
    number = 3 * level + i + (way == "down")
    block = f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
  if kind == "attentions":
    rest = rest.replace("temporal_transformer_blocks", "time_stack")
    rest = rest.replace("time_pos_embed.linear_1", "time_pos_embed.0")
    return f"{block}.{rest.replace('time_pos_embed.linear_2', 'time_pos_embed.2')}"
  if rest.startswith("time_mixer"):
    return f"{block}.{rest}"
  parts = rest.split(".")
  over_time = parts[0] == "temporal_res_block"
  if parts[0] in ("spatial_res_block", "temporal_res_block"):
    parts = parts[1:]
  return f"{block}.{'time_stack.' if over_time else ''}{_BLOCK[parts[0]]}.{parts[1]}"


def vae(name: str) -> str:
  """Stability's name of a parameter of diffusers' autoencoders with four levels, without prefix."""
  if name.startswith("decoder.time_conv_out"):
    return name.replace("time_conv_out", "conv_out.time_mix_conv")
  half, _, rest = name.partition(".")
  if rest.startswith(("conv_in", "conv_out")) or half in ("quant_conv", "post_quant_conv"):
    return name
  if rest.startswith("conv_norm_out"):
    return name.replace("conv_norm_out", "norm_out")
  if m := re.match(r"mid_block\.attentions\.0\.(.*)\.(\w+)$", rest):
    layer = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    return f"{half}.mid.attn_1.{layer[m[1]]}.{m[2]}"
  if m := re.match(r"(down|up)_blocks\.(\d)\.\w+samplers\.0\.(.*)", rest):
    level = int(m[2]) if m[1] == "down" else 3 - int(m[2])
    return f"{half}.{m[1]}.{level}.{m[1]}sample.{m[3]}"
  if m := re.match(r"mid_block\.resnets\.(\d)\.(.*)", rest):
    block, inner = f"{half}.mid.block_{int(m[1]) + 1}", m[2]
  else:
    m = re.match(r"(down|up)_blocks\.(\d)\.resnets\.(\d)\.(.*)", rest)
    assert m, name
    level = int(m[2]) if m[1] == "down" else 3 - int(m[2])
    block, inner = f"{half}.{m[1]}.{level}.block.{m[3]}", m[4]
  if inner == "time_mixer.mix_factor":
    return f"{block}.mix_factor"
  if inner.startswith("temporal_res_block."):
    _, layer, leaf = inner.split(".")
    return f"{block}.time_stack.{_BLOCK[layer]}.{leaf}"
  inner = inner.removeprefix("spatial_res_block.").replace("conv_shortcut", "nin_shortcut")
  return f"{block}.{inner}"
