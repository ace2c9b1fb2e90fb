"""transformers' models with a fault, with and without peft's adapters."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tests.engine.audit.zoo.case import Case, Fault, Place
from tests.engine.audit.zoo.libraries import GENERATE
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    Sam2Config,
    Sam2Model,
    ViTConfig,
    ViTForImageClassification,
)

IDS = torch.tensor([[3, 5, 7, 9], [2, 4, 6, 8]])

# --- transformers


def llama() -> LlamaForCausalLM:
    torch.manual_seed(52)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    config = LlamaConfig(vocab_size=19, pad_token_id=0, eos_token_id=18, **sizes, **heads)
    return LlamaForCausalLM(config)


def adapted_llama(**more: object) -> nn.Module:
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **more)
    return get_peft_model(llama(), config)


LORA = {"lora": "lora_"}


def scores_of_generate(generated: bool) -> Case:
    model = adapted_llama()

    def loss() -> Tensor:
        out = model.generate(
            input_ids=IDS, max_new_tokens=2, do_sample=False, output_scores=True,
            min_new_tokens=2, return_dict_in_generate=True,
        )  # fmt: skip
        scores = torch.stack(out.scores, 1) if generated else model(out.sequences).logits
        return -scores.log_softmax(-1)[..., 4].mean()

    return Case(model, loss, groups=LORA)


def no_label(ignored: bool) -> Case:
    model = adapted_llama()
    labels = torch.full_like(IDS, -100) if ignored else IDS
    return Case(model, lambda: model(input_ids=IDS, labels=labels).loss, groups=LORA)


def detached_embeddings(detached: bool) -> Case:
    model = llama()

    def loss() -> Tensor:
        words = model.get_input_embeddings()(IDS)
        words = words.detach() if detached else words  # cut
        return model(inputs_embeds=words, labels=IDS).loss

    groups = {"words": "embed_tokens", "layers": r"layers|norm|lm_head"}
    return Case(model, loss, groups=groups)


def around_the_adapter(around: bool) -> Case:
    """A copy of the base, made before, is what the loss asks."""
    base = llama()
    plain = copy.deepcopy(base)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    inner = plain if around else model.base_model.model
    return Case(model, lambda: inner(input_ids=IDS, labels=IDS).loss, groups=LORA)


def another_adapter(another: bool) -> Case:
    """The optimizer was made for the first adapter; then the second became the active one."""
    model = adapted_llama()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.set_adapter("default")
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    if another:
        model.set_adapter("second")
    groups = {"second": r"lora_.*second"} if another else {"default": r"lora_.*default"}
    return Case(model, lambda: model(input_ids=IDS, labels=IDS).loss, optimizer, groups)


def merged_and_unloaded(stale: bool) -> Case:
    model = adapted_llama()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    other = model.merge_and_unload() if stale else model
    return Case(model, lambda: other(input_ids=IDS, labels=IDS).loss, optimizer)


class Pooled(nn.Module):
    """BERT and a head on the words' states; BERT's own pooler is thrown away."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(53)
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
        self.pooled = pooled
        self.bert = BertModel(BertConfig(vocab_size=19, num_attention_heads=2, **sizes)).eval()
        self.head = nn.Linear(8, 1)

    def forward(self, ids: Tensor) -> Tensor:
        out = self.bert(ids)
        state = out.pooler_output if self.pooled else out.last_hidden_state[:, 0]
        return self.head(state)


def pooler(pooled: bool) -> Case:
    model = Pooled(pooled)
    groups = {"pooler": "pooler", "rest": "."}
    return Case(model, lambda: model(IDS).square().mean(), groups=groups)


def adapted_pooler() -> Case:
    """LoRA on nothing but a module whose result is thrown away, and a head that learns."""
    model = Pooled(False)
    config = LoraConfig(r=2, target_modules=r".*pooler\.dense", modules_to_save=["head"])
    peft = get_peft_model(model, config)
    groups = {"lora": "lora_", "head": "head"}
    return Case(peft, lambda: peft(IDS).square().mean(), groups=groups)


def vit(hard: bool) -> Case:
    torch.manual_seed(54)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = ViTConfig(image_size=8, patch_size=4, num_attention_heads=2, num_labels=3, **sizes)
    model = ViTForImageClassification(config)
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])

    def loss() -> Tensor:
        scores = model(pixel_values=x).logits
        if hard:
            classes = scores.argmax(-1)  # cut
            return (classes != y).float().mean().requires_grad_(True)  # also detached_leaf
        return F.cross_entropy(scores, y)

    return Case(model, loss, groups={"vit": "."})


def clip() -> CLIPModel:
    torch.manual_seed(55)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text = {**sizes, "vocab_size": 19, "num_attention_heads": 2, "eos_token_id": 18}
    vision = {**sizes, "image_size": 8, "patch_size": 4, "num_attention_heads": 2}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=4))


def clip_of_cached_images(cached: bool) -> Case:
    """Image features are made without a graph, as for zero-shot prediction."""
    model, x = clip(), torch.randn(2, 3, 8, 8)

    def loss() -> Tensor:
        if not cached:
            return model(input_ids=IDS, pixel_values=x, return_loss=True).loss
        with torch.no_grad():  # cut
            images = model.visual_projection(model.vision_model(x).pooler_output)
        words = model.text_projection(model.text_model(IDS).pooler_output)
        scores = F.normalize(images) @ F.normalize(words).T * model.logit_scale.exp()
        return F.cross_entropy(scores, torch.arange(2))

    groups = {"vision": r"vision|visual", "text": r"text_", "scale": "logit_scale"}
    return Case(model, loss, groups=groups)


def sam() -> Sam2Model:
    torch.manual_seed(56)
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
        "num_attention_heads": 1, "blocks_per_stage": [1, 1, 1, 1], "global_attention_blocks": [],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 4],
        "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16,
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 64, "mask_input_channels": 4}
    mask = {"hidden_size": 16, "mlp_dim": 8, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
    config = Sam2Config(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=mask
    )
    return Sam2Model(config)


def masks_of_cached_embeddings(cached: bool) -> Case:
    model, x = sam(), torch.randn(1, 3, 64, 64)
    model.prompt_encoder.requires_grad_(False)
    points = {"input_points": torch.tensor([[[[20.0, 30.0]]]]), "input_labels": torch.ones(1, 1, 1)}
    points["input_labels"] = points["input_labels"].int()

    def loss() -> Tensor:
        given = {"pixel_values": x}
        if cached:
            given = {"image_embeddings": model.get_image_embeddings(x)}
        return model(**given, **points, multimask_output=False).pred_masks.square().mean()

    groups = {"vision": "vision_encoder", "decoder": "mask_decoder"}
    return Case(model, loss, groups=groups)


OTHER_MODELS = [
    Fault(
        "peft: scores of generate",
        "no_grad",
        partial(scores_of_generate, True),
        dead=("lora",),
        places=(GENERATE,),
        twins=(partial(scores_of_generate, False),),
    ),
    Fault(
        "transformers: every label is ignored",
        "nonfinite",
        partial(no_label, True),
        places=(Place("nonfinite", "transformers/loss/loss_utils.py"),),
        twins=(partial(no_label, False),),
    ),
    Fault(
        "transformers: inputs_embeds detached",
        "detach",
        partial(detached_embeddings, True),
        detached_embeddings,
        ("words",),
        twins=(partial(detached_embeddings, False),),
    ),
    Fault(
        "peft: the loss asks a copy of the base",
        "constant_loss",
        partial(around_the_adapter, True),
        dead=("lora",),
        places=(
            *(Place(kind) for kind in ("constant_loss", "branch_not_taken", "other_tensor")),
            Place("constant_loss", "transformers/loss/loss_utils.py"),
        ),
        twins=(partial(around_the_adapter, False),),
    ),
    Fault(
        "peft: another adapter than the optimizer's",
        "not_in_optimizer",
        partial(another_adapter, True),
        outside=("second",),
        places=(Place("not_in_optimizer"), Place("replaced_parameter")),
        also=("frozen",),
        twins=(partial(another_adapter, False),),
    ),
    Fault(
        "peft: merged and unloaded, the old handle kept",
        "replaced_parameter",
        partial(merged_and_unloaded, True),
        places=tuple(Place(k) for k in ("replaced_parameter", "frozen", "adapter_merged")),
        also=("frozen", "adapter_merged"),
        twins=(partial(merged_and_unloaded, False),),
    ),
    Fault(
        "transformers: BERT's pooler thrown away",
        "other_tensor",
        partial(pooler, False),
        dead=("pooler",),
        places=tuple(
            Place(kind, "transformers/models/bert/modeling_bert.py")
            for kind in ("other_tensor", "branch_not_taken")
        ),
        twins=(partial(pooler, True),),
    ),
    Fault(
        "peft: LoRA on a module whose result is thrown away",
        "other_tensor",
        adapted_pooler,
        dead=("lora",),
        places=tuple(
            Place(kind, "bert/modeling_bert.py") for kind in ("other_tensor", "branch_not_taken")
        ),
    ),
    Fault(
        "transformers: ViT's classes in the loss",
        "argmax",
        partial(vit, True),
        vit,
        ("vit",),
        twins=(partial(vit, False),),
    ),
    Fault(
        "transformers: CLIP's images without a graph",
        "no_grad",
        partial(clip_of_cached_images, True),
        clip_of_cached_images,
        ("vision",),
        twins=(partial(clip_of_cached_images, False),),
    ),
    Fault(
        "transformers: SAM 2's get_image_embeddings",
        "no_grad",
        partial(masks_of_cached_embeddings, True),
        dead=("vision", "other"),
        places=(Place("no_grad", "sam2/modeling_sam2.py", None, ("get_image_embeddings",)),),
        also=("branch_not_taken",),
        twins=(partial(masks_of_cached_embeddings, False),),
    ),
]
