"""MONAI's networks, losses, metrics and transforms with a fault."""

from functools import partial

import torch
from monai.data import decollate_batch
from monai.losses import DiceLoss
from monai.metrics import DiceMetric, compute_hausdorff_distance
from monai.networks.nets import UNet
from monai.transforms import Activations, AsDiscrete
from tests.engine.audit.zoo.carriers import note
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor

UNET = {"unet": "."}


def unet() -> UNet:
    torch.manual_seed(50)
    return UNet(2, 1, 2, channels=(2, 4), strides=(2,), num_res_units=0)


def image() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(51)
    x = torch.randn(2, 1, 16, 16, generator=generator)
    return x, (x > 0.3).long()


def dice_of_discrete(discrete: bool) -> Case:
    model, (x, y) = unet(), image()
    post = AsDiscrete(argmax=True, dim=1, keepdim=True) if discrete else Activations(softmax=True)
    dice = DiceLoss(include_background=False) if discrete else DiceLoss(to_onehot_y=True)

    def loss() -> Tensor:
        masks = post(model(x))  # or # or copy
        if discrete:
            masks = torch.cat([1 - masks, masks], dim=1).float()
            return dice(masks, torch.cat([1 - y, y], dim=1).float())
        return dice(masks, y)

    return Case(model, loss, groups=UNET)


def dice_of_thresholded(discrete: bool) -> Case:
    model, (x, y) = unet(), image()
    dice = DiceLoss()

    def loss() -> Tensor:
        vessel = torch.sigmoid(model(x)[:, 1:])
        masks = (vessel > 0.5).float() if discrete else vessel  # cut
        return dice(masks, y.float())

    return Case(model, loss, groups=UNET)


def dice_of_decollated(decollated: bool) -> Case:
    model, (x, y) = unet(), image()
    dice = DiceLoss(softmax=True, to_onehot_y=True)

    def loss() -> Tensor:
        answer = model(x)
        masks = decollate_batch(answer) if decollated else list(answer)  # or
        note(len(masks))
        return dice(torch.stack(masks), y)

    return Case(model, loss, groups=UNET)


def metric_as_loss() -> Case:
    model, (x, y) = unet(), image()
    metric = DiceMetric(include_background=False)

    def loss() -> Tensor:
        vessel = model(x).softmax(1)[:, 1:]
        metric.reset()
        metric(y_pred=(vessel > 0.5).float(), y=y.float())  # cut
        return 1 - metric.aggregate()

    return Case(model, loss, groups=UNET)


def metric_beside_loss() -> Case:
    model, (x, y) = unet(), image()
    metric, dice = DiceMetric(), DiceLoss(softmax=True, to_onehot_y=True)

    def loss() -> Tensor:
        answer = model(x)
        metric(y_pred=answer.argmax(1, keepdim=True), y=y)
        note(metric.aggregate().item())
        metric.reset()
        return dice(answer, y)

    return Case(model, loss, groups=UNET)


def hausdorff_as_loss() -> Case:
    model, (x, y) = unet(), image()

    def loss() -> Tensor:
        vessel = model(x).softmax(1)[:, 1:]
        masks = (vessel > 0.5).float()  # cut
        return compute_hausdorff_distance(masks, y.float(), include_background=True).mean()

    return Case(model, loss, groups=UNET)


OTHER_MONAI = [
    Fault(
        "MONAI: AsDiscrete before the Dice loss",
        "argmax",
        partial(dice_of_discrete, True),
        dice_of_discrete,
        ("unet",),
        places=(Place("argmax", "monai/transforms/post/array.py"),),
        twins=(partial(dice_of_discrete, False),),
    ),
    Fault(
        "MONAI: a threshold before the Dice loss",
        "threshold",
        partial(dice_of_thresholded, True),
        dice_of_thresholded,
        ("unet",),
        twins=(partial(dice_of_thresholded, False),),
    ),
    Fault(
        "MONAI: decollate_batch",
        "detach",
        partial(dice_of_decollated, True),
        dice_of_decollated,
        ("unet",),
        places=(Place("detach", "monai/data/utils.py"),),
        twins=(partial(dice_of_decollated, False),),
    ),
    Fault(
        "MONAI: a metric as loss",
        "threshold",
        metric_as_loss,
        metric_as_loss,
        ("unet",),
        twins=(metric_beside_loss,),
    ),
    Fault(
        "MONAI: Hausdorff distance as loss",
        "threshold",
        hausdorff_as_loss,
        hausdorff_as_loss,
        ("unet",),
    ),
]
