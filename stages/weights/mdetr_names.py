"""Names of the public MDETR and SiRi checkpoints for our parameters."""

import re
from collections.abc import Mapping

from torch import Tensor

# applied in turn; SiRi numbers its decoders, MDETR has one
_RENAME: tuple[tuple[str, str], ...] = (
    (r"^transformer\.(?:0\.)?encoder\.", "detector.encoder."),
    (r"^transformer\.decoder\.", "detector.decoders.0."),
    (r"^transformer\.(\d)\.decoder\.", r"detector.decoders.\1."),
    (r"^transformer\.(?:0\.)?resizer\.fc\.", "detector.text_proj.linear."),
    (r"^transformer\.(?:0\.)?resizer\.layer_norm\.", "detector.text_proj.norm."),
    (r"\.cross_attn_image\.", ".multihead_attn."),
    (r"^(detector\.decoders\.\d\.layers\.\d+)\.norm3\.", r"\1.norm2."),
    (r"^(detector\.decoders\.\d\.layers\.\d+)\.norm4\.", r"\1.norm3."),
    (r"^class_embed\.(\d)\.", r"detector.class_heads.\1."),
    (r"^class_embed\.", "detector.class_heads.0."),
    (r"^bbox_embed\.layers\.", "bbox_embed.0.layers."),
    (r"^bbox_embed\.(\d)\.layers\.0\.", r"detector.box_heads.\1.layers.0."),
    (r"^bbox_embed\.(\d)\.layers\.1\.", r"detector.box_heads.\1.layers.2."),
    (r"^bbox_embed\.(\d)\.layers\.2\.", r"detector.box_heads.\1.layers.4."),
    (r"^query_embed\.", "detector.queries."),
    (r"^input_proj\.", "detector.input_proj."),
    (r"^pos_trans_norm\.", "detector.grid_norm."),
    (r"^contrastive_align_projection_image\.", "detector.align_queries."),
    (r"^contrastive_align_projection_text\.", "detector.align_words."),
    (r"^add_feature\.", "fusion.down."),
    (r"^bbox_attention\.q_linear\.", "mask_head.attention.query."),
    (r"^bbox_attention\.k_linear\.", "mask_head.attention.key."),
    *((rf"^mask_head\.lay{k}\.", f"mask_head.convolutions.{k - 1}.0.") for k in range(1, 6)),
    *((rf"^mask_head\.gn{k}\.", f"mask_head.convolutions.{k - 1}.1.") for k in range(1, 6)),
    *((rf"^mask_head\.adapter{k}\.", f"mask_head.lateral.{k - 1}.") for k in range(1, 4)),
    (r"^mask_head\.out_lay\.", "mask_head.out."),
)


def our_name(released: str) -> str:
    """Our name of a released parameter (backbone and text encoder excluded); unchanged when it has none."""
    name = released
    for pattern, replacement in _RENAME:
        name = re.sub(pattern, replacement, name)
    return name


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released state -> ours; the 1x1 convolution in front of the encoder becomes a linear layer."""
    out = {our_name(name): value for name, value in state.items()}
    weight = out.get("detector.input_proj.weight")
    if weight is not None and weight.dim() == 4:
        out["detector.input_proj.weight"] = weight[:, :, 0, 0]
    return out
