"""The two that learn: nano by the product's own parts, and MONAI's U-Nets.

Both see the same images in the same order, each varied as suits it best, and both are asked
through `predict_batch`, so one evaluation scores them. All weights of nano (`everything`) are
opened here: the product opens its groups only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from benchmarks.learning.course import Course
from benchmarks.learning.sets import Drawn
from jaxtyping import Float, UInt8
from monai.networks.nets import BasicUNet, UNet
from safetensors.torch import save_file
from torch import Tensor, nn

from vasculora.core.geometry import area_shares
from vasculora.core.report import Silent
from vasculora.core.runtime import build_accelerator, pick_device, set_seed
from vasculora.core.types import LossTerms, Prediction, Record, Sample
from vasculora.data.dataset import VesselDataset, load_sample
from vasculora.data.transforms import build_augment
from vasculora.engine.evaluator import HALF, evaluate
from vasculora.engine.loader import EpochLoader
from vasculora.engine.optim import build_optimizer
from vasculora.engine.trainer import Trainer
from vasculora.losses.mask import bce_loss, dice_loss
from vasculora.model.lora import WEIGHTS_NAME, groups_of, save_adapter
from vasculora.model.memory import Memory, write_memory
from vasculora.model.predictor import Answerer, Predictor
from vasculora.model.pretrained import ADAPTER_NAME, OpenedModel
from vasculora.recipes.config import FinetuneConfig, finetune_settings
from vasculora.recipes.modality import settle_modality
from vasculora.recipes.setup import build_trainer, open_base, samples_of
from vasculora.recipes.target import settle_target

NAMES = ("dice", "cldice")
_PHRASE = "blood vessel"
_EPOCH = 64  # images of an epoch at least: few images are taken several times, in full batches
_MULTIPLE = 16
_HEAD = 16
_WARMUP = 0.1
_DECAY = 0.01
_MAX_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run is given."""

    drawn: Drawn
    seconds: float
    seed: int
    base: str
    overrides: tuple[str, ...]
    unet_augment: str
    unet_lr: float
    unet_batch: int
    unet_side: int | None
    everything_lr: float
    keep: Path


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A trained model, how it came about and what it weighs."""

    answerer: Answerer
    course: Course
    trained: int
    file_bytes: int
    about: dict[str, object]


def case_scores(
    answerer: Answerer, records: Sequence[Record], *, batch_size: int = 4
) -> list[dict[str, object]]:
    """Return the scores of each image at its own size."""
    samples = (load_sample(record, phrase=_PHRASE) for record in records)
    found = evaluate(answerer, samples, batch_size=batch_size, names=NAMES)
    return [
        {"case_id": c.case_id, "group": c.group} | {n: round(c.scores[n], 5) for n in NAMES}
        for c in found.cases
    ]


def learn_nano(task: Task) -> Learnt:
    """Fine-tune a base as `vasculora finetune` would, until the time is up."""
    config, opened, data, accelerator = _nano_parts(task)
    trainer, loader = build_trainer(config, opened, data, accelerator)
    course = _course(task, Predictor.of(opened))
    trainer.schedule = course.schedule(trainer.optimizer, warmup=config.optim.warmup)
    trained = _count(trainer.model)
    _train(trainer, loader, course)
    folder = task.keep / ADAPTER_NAME
    memory = Memory(
        processor=opened.processor.config,
        prompt=opened.processor.prompt,
        base=opened.name,
        fingerprint=opened.fingerprint,
        trainable=groups_of(opened.model, config.lora),
    )
    write_memory(folder, memory)
    save_adapter(accelerator.unwrap_model(trainer.model), folder)
    return Learnt(
        answerer=Predictor.of(opened),
        course=course,
        trained=trained,
        file_bytes=(folder / WEIGHTS_NAME).stat().st_size,
        about=_about(config, opened.fingerprint),
    )


def learn_everything(task: Task) -> Learnt:
    """Train all weights of the base instead of adapters; else as `learn_nano`."""
    config, opened, data, accelerator = _nano_parts(task)
    trainer, loader = build_trainer(config, opened, data, accelerator)
    # adapters are taken off again before their first step, where they change nothing
    model = trainer.model.merge_and_unload().requires_grad_(True)
    trainer.model = model
    trainer.optimizer = build_optimizer(
        model.parameters(), lr=task.everything_lr, weight_decay=config.optim.weight_decay
    )
    course = _course(task, Predictor(model, opened.processor))
    trainer.schedule = course.schedule(trainer.optimizer, warmup=config.optim.warmup)
    _train(trainer, loader, course)
    return Learnt(
        answerer=Predictor(model, opened.processor),
        course=course,
        trained=_count(model),
        file_bytes=_save(model, task.keep / "everything.safetensors"),
        about=_about(config, opened.fingerprint) | {"lr": task.everything_lr},
    )


def learn_unet(task: Task, build: Callable[[int], nn.Module]) -> Learnt:
    """Train a U-Net from nothing, until the time is up."""
    set_seed(task.seed)
    accelerator = build_accelerator(pick_device())
    channels = 1 if all(_is_grey(record) for record in task.drawn.train) else 3
    model = build(channels).to(accelerator.device, memory_format=torch.channels_last)
    asked = UNetAnswerer(model, channels=channels, side=task.unet_side)
    config = _settings(task, [f"data.augment={task.unet_augment}"])
    config = settle_modality(config, task.drawn.train, phrase=_PHRASE, report=Silent())
    modality = config.data.modality
    data = VesselDataset(
        task.drawn.train,
        phrase=_PHRASE,
        transform=build_augment(config.data.augment, None if modality == "auto" else modality),
        seed=task.seed,
        draws=_draws(task),
        cache_bytes=int(config.data.cache_gb * 2**30),
    )
    loader = EpochLoader(
        data,
        asked.collate,
        batch_size=task.unet_batch,
        seed=task.seed,
        num_workers=0,
        accelerator=accelerator,
    )
    optimizer = build_optimizer(model.parameters(), lr=task.unet_lr, weight_decay=_DECAY)
    course = _course(task, asked)
    schedule = course.schedule(optimizer, warmup=_WARMUP)
    for batches in course.run(loader.epoch):
        for images, targets in batches:
            loss = _unet_loss(asked, images, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            course.note(len(images), float(loss.detach()))
    return Learnt(
        answerer=asked,
        course=course,
        trained=_count(model),
        file_bytes=_save(model, task.keep / "unet.safetensors"),
        about={"channels": channels, "side": asked.side, "lr": task.unet_lr},
    )


class UNetAnswerer:
    """Asks a U-Net for masks, and makes its batches: one way in for training and use.

    A larger image than `side` is made smaller by area; logits are enlarged to its own size again.
    """

    def __init__(self, model: nn.Module, *, channels: int, side: int | None) -> None:
        self.model = model
        self.channels = channels
        self.side = side

    def collate(self, samples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Return images as the U-Net sees them, and the share of vessel in each pixel."""
        images = torch.cat([self._shown(sample.image) for sample in samples])
        masks = [torch.from_numpy(sample.masks[0]).float() for sample in samples]
        grid = (images.shape[2], images.shape[3])
        return images, torch.stack([area_shares(mask, grid) for mask in masks])

    def logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Return scores on the grid of the images."""
        height, width = images.shape[-2:]
        filled = F.pad(images, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        filled = filled.contiguous(memory_format=torch.channels_last)
        return self.model(filled)[:, 0, :height, :width]

    @torch.inference_mode()
    def predict_batch(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return the mask of each image at its own size; there is nothing to be asked."""
        self.model.eval()
        found = []
        for image in images:
            logits = self.logits(self._shown(image))[None].float()
            grown = F.interpolate(
                logits, size=image.shape[:2], mode="bilinear", align_corners=False
            )
            prob = grown[0, 0].sigmoid().numpy()
            found.append(Prediction(text="", seg_found=True, prob=prob, mask=prob > HALF))
        self.model.train()
        return found

    def _size(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = 1.0 if self.side is None else min(1.0, self.side / max(size))
        return round(size[0] * scale), round(size[1] * scale)

    def _shown(self, image: UInt8[np.ndarray, "_ _ 3"]) -> Float[Tensor, "1 c h w"]:
        """Return the image at the U-Net's size, with mean 0 and deviation 1."""
        tensor = torch.from_numpy(image[..., : self.channels]).permute(2, 0, 1)[None].float()
        size = self._size((image.shape[0], image.shape[1]))
        if size != image.shape[:2]:
            tensor = F.interpolate(tensor, size=size, mode="area")
        dims = (2, 3)
        spread = tensor.std(dims, keepdim=True)
        return (tensor - tensor.mean(dims, keepdim=True)) / (spread + 1e-6)


def unet(channels: int) -> nn.Module:
    """Return MONAI's U-Net with residual units, and a linear head.

    MONAI's own last layer normalises its one channel, which pins the share of vessel near a half
    until hundreds of steps have moved it; a head on 16 channels is free of that and learns sooner.
    """
    body = UNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=_HEAD,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )
    return nn.Sequential(body, nn.Conv2d(_HEAD, 1, 1))


def basicunet(channels: int) -> nn.Module:
    """Return MONAI's plain U-Net, wider at full size and several times slower."""
    return BasicUNet(spatial_dims=2, in_channels=channels, out_channels=1)


def _nano_parts(task: Task) -> tuple[FinetuneConfig, OpenedModel, VesselDataset, Accelerator]:
    """Return settings, base and images as the product's own fine-tuning would have them."""
    accelerator = build_accelerator(pick_device())
    config = _settings(task, task.overrides)
    opened = open_base(config, accelerator.device, Silent())
    config, opened = settle_target(config, opened, task.drawn.train, Silent())
    phrase = opened.memory.prompt.phrase
    config = settle_modality(config, task.drawn.train, phrase=phrase, report=Silent())
    augment = config.data.augment
    data = samples_of(config, opened, task.drawn.train, augment=augment, cut=True, cache_share=1.0)
    data.draws *= _draws(task)
    return config, opened, data, accelerator


def _settings(task: Task, overrides: Sequence[str]) -> FinetuneConfig:
    return finetune_settings(
        config_path=None,
        preset=None,
        overrides=overrides,
        values={
            "model": task.base,
            "data.path": "images",
            "trainer.num_workers": 0,
            "seed": task.seed,
        },
    )


def _draws(task: Task) -> int:
    return max(1, round(_EPOCH / len(task.drawn.train)))


def _course(task: Task, answerer: Answerer) -> Course:
    watched = task.drawn.watched

    def look() -> dict[str, float]:
        cases = case_scores(answerer, watched)
        return {f"val_{n}": float(np.mean([case[n] for case in cases])) for n in NAMES}

    # what is imported or read at first use is no part of training
    bce_loss(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    dice_loss(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    return Course(budget=task.seconds, look=look if watched else None)


def _train(trainer: Trainer, loader: EpochLoader, course: Course) -> None:
    def on_step(num_images: int, terms: LossTerms) -> None:
        course.note(num_images, float(terms.total().detach()))

    for batches in course.run(loader.epoch):
        trainer.run_epoch(batches, on_step)


def _unet_loss(asked: UNetAnswerer, images: Tensor, targets: Tensor) -> Tensor:
    device = next(asked.model.parameters()).device
    logits = asked.logits(images.to(device)).float()
    targets = targets.to(device)
    return (dice_loss(logits, targets) + bce_loss(logits, targets)).mean()


def _is_grey(record: Record) -> bool:
    image = load_sample(record, phrase=_PHRASE).image
    return bool((image == image[..., :1]).all())


def _about(config: FinetuneConfig, fingerprint: str) -> dict[str, object]:
    return {
        "base_fingerprint": fingerprint,
        "target": config.target,
        "augment": config.data.augment,
        "lora": config.lora.model_dump(mode="json"),
        "optim": config.optim.model_dump(mode="json"),
        "batch_size": config.trainer.batch_size,
    }


def _count(model: nn.Module) -> int:
    return sum(param.numel() for param in model.parameters() if param.requires_grad)


def _save(model: nn.Module, path: Path) -> int:
    """Write a model's weights and return how many bytes they take; tied ones are written once."""
    seen = dict(model.named_parameters()) | dict(model.named_buffers())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in seen.items()}, path)
    return path.stat().st_size


METHODS: dict[str, Callable[[Task], Learnt]] = {
    "nano": learn_nano,
    "everything": learn_everything,
    "unet": lambda task: learn_unet(task, unet),
    "basicunet": lambda task: learn_unet(task, basicunet),
}
