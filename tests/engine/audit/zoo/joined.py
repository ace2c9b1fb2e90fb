"""Faults and healthy set-ups in Sa2VA itself: the tiny one of the tests, or the shipped nano.

A fault is planted by a function that takes a `Setting`: the model with adapters, a batch and the
objective.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from tests.engine.audit.zoo.carriers import note
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn

from vasculora.core.types import Batch, Output
from vasculora.losses.objective import Objective
from vasculora.model.decoding import Stop
from vasculora.model.grounding import best_candidate, decode_masks, encode_image
from vasculora.model.groups import GROUPS, trainable_groups
from vasculora.model.sa2va import Sa2VA


@dataclass(frozen=True)
class Setting:
    """Where a fault is planted."""

    model: nn.Module
    batch: Batch
    objective: Objective
    prompts: Batch
    stop: Stop

    @property
    def base(self) -> Sa2VA:
        """The model below its adapters."""
        return self.model.base_model.model

    def case(self, loss_fn: Callable[[], Tensor]) -> Case:
        """Return the case of a loss, its groups named as the package names them."""
        return Case(self.model, loss_fn, groups=patterns(self.model))

    def loss(self) -> Tensor:
        """Return the ordinary loss."""
        return self.objective(self.model(self.batch), self.batch).total()


def patterns(model: nn.Module) -> dict[str, str]:
    """Return the package's own patterns of the groups that learn."""
    return {name: GROUPS[name] for name in trainable_groups(model)}


def healthy(setting: Setting) -> Case:
    return setting.case(setting.loss)


# --- the seed's two situations


def loss_of_masks(setting: Setting, logits: Tensor) -> Tensor:
    """Return a loss on predicted masks, whatever their number: it asks for an empty picture."""
    return nn.functional.softplus(logits).mean()


def through_own_generate(setting: Setting) -> Case:
    """The seed as it was: the loss is taken from what generate returns."""

    @torch.no_grad()  # cut
    def generate() -> Output:
        return setting.model(setting.batch)

    return setting.case(lambda: setting.objective(generate(), setting.batch).total())


def through_sa2va_generate(setting: Setting) -> Case:
    """The same with the package's own method."""

    def loss() -> Tensor:
        _, output, _ = setting.base.generate(setting.prompts, max_new_tokens=12, stop=setting.stop)
        return loss_of_masks(setting, output.mask_logits)

    return setting.case(loss)


def through_library_generate(setting: Setting) -> Case:
    """The seed's repair: the own decorator is gone, the library's is still there."""
    base, prompts = setting.base, setting.prompts

    def loss() -> Tensor:
        answer = base.mllm.generate(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            pixel_values=prompts.mllm_pixels,
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=list(setting.stop.ids),
            pad_token_id=0,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        states = torch.cat([step[-1] for step in answer.hidden_states], dim=1)
        is_seg = answer.sequences[:, : states.shape[1]] == base.seg_token_id
        assert is_seg.any(), "the answer holds no [SEG]"
        features = encode_image(base.grounding, prompts.sam_pixels)
        index = is_seg.nonzero()[:, 0]
        prompt = base.seg_projector(states[is_seg])
        masks, scores = decode_masks(base.grounding, features, index, prompt)
        return loss_of_masks(setting, best_candidate(masks, scores))

    return setting.case(loss)


def generated_for_show(setting: Setting) -> Case:
    """The same words in a healthy step: an answer is generated, and only looked at."""

    def loss() -> Tensor:
        answers, output, _ = setting.base.generate(
            setting.prompts, max_new_tokens=12, stop=setting.stop
        )
        note(answers)
        note((output.mask_logits > 0).float().mean().item())
        return setting.loss()

    return setting.case(loss)


# --- faults at the joints


def hooked(setting: Setting, place: nn.Module, hook: Callable[..., object]) -> Case:
    """Return the case in which a hook changes what goes into a part."""
    place.register_forward_pre_hook(lambda _, args: (hook(args[0]), *args[1:]))
    return setting.case(setting.loss)


def detached(state: Tensor) -> Tensor:
    return state.detach()  # cut


def detached_seg_state(setting: Setting) -> Case:
    return hooked(setting, setting.base.seg_projector, detached)


def shown(state: Tensor) -> Tensor:
    note(state.detach().abs().mean().item())
    return state


def shown_seg_state(setting: Setting) -> Case:
    return hooked(setting, setting.base.seg_projector, shown)


def copied(state: Tensor) -> Tensor:
    return torch.tensor(state.tolist(), requires_grad=True)  # cut # also detached_leaf


def copied_seg_state(setting: Setting) -> Case:
    return hooked(setting, setting.base.seg_projector, copied)


def encoded_without_graph(setting: Setting) -> Case:
    """The picture is encoded without a graph, as transformers' own entry point does it."""
    encoder = setting.base.grounding.vision_encoder
    whole = encoder.forward

    def forward(*args: object, **kwargs: object) -> object:
        with torch.no_grad():  # cut
            return whole(*args, **kwargs)

    encoder.forward = forward
    return setting.case(setting.loss)


def hard_masks(setting: Setting) -> Case:
    """The loss meets thresholded masks; the text still learns."""

    def loss() -> Tensor:
        output = setting.model(setting.batch)
        hard = (output.candidate_logits > 0).float() * 20 - 10  # cut
        return setting.objective(replace(output, candidate_logits=hard), setting.batch).total()

    return setting.case(loss)


def text_alone(setting: Setting) -> Case:
    """The mask terms weigh nothing."""

    def loss() -> Tensor:
        terms = setting.objective(setting.model(setting.batch), setting.batch)
        parts = {name: 1.0 if name == "text" else 0.0 for name in terms.sums}
        return sum(parts[name] * terms.sums[name] for name in parts)  # cut

    return setting.case(loss)


def infinite_projector(setting: Setting) -> Case:
    """The state at [SEG] is divided by its own length, which is zero."""

    def divided(state: Tensor) -> Tensor:
        return state / (state - state).norm(dim=-1, keepdim=True)  # cut

    return hooked(setting, setting.base.seg_projector, divided)


MASKS = ("projector", "mask_decoder", "grounding_lora")
EVERYTHING = ("mllm_lora", *MASKS)
GENERATE = Place("no_grad", "transformers/generation/utils.py", None, ("generate",))


@dataclass(frozen=True)
class Planted:
    """A fault of Sa2VA: built from a setting instead of from nothing."""

    plant: Callable[[Setting], Case]
    kind: str
    source: object
    dead: tuple[str, ...]
    text: float = 1.0
    trainable: tuple[str, ...] = EVERYTHING
    places: tuple[Place, ...] = ()
    refused: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.plant.__name__

    def fault(self, case: Case) -> Fault:
        """Return the fault as the zoo checks it."""
        return Fault(
            self.name,
            self.kind,
            lambda: case,
            self.source,
            tuple(name for name in self.dead if name in self.trainable),
            places=self.places,
            refused=self.refused,
        )


SEED = ("mllm_lora", "mask_decoder_lora")
PLANTED = (
    Planted(through_own_generate, "no_grad", through_own_generate, EVERYTHING),
    Planted(through_sa2va_generate, "no_grad", None, EVERYTHING, places=(
        Place("no_grad", "vasculora/model/sa2va.py", None, ("generate",)),)),
    Planted(detached_seg_state, "detach", detached, ("mllm_lora",), text=0.0),
    Planted(copied_seg_state, "tolist", copied, ("mllm_lora",), text=0.0),
    Planted(encoded_without_graph, "no_grad", encoded_without_graph, ("grounding_lora",)),
    Planted(hard_masks, "threshold", hard_masks, MASKS),
    Planted(text_alone, "zero_weight", text_alone, MASKS),
    Planted(infinite_projector, "nonfinite", infinite_projector, (), refused=True),
)  # fmt: skip
TWINS = (healthy, generated_for_show, shown_seg_state)
OF_THE_SEED = (
    Planted(through_own_generate, "no_grad", through_own_generate, SEED, trainable=SEED),
    Planted(through_library_generate, "no_grad", None, ("mllm_lora",), trainable=SEED,
            places=(GENERATE,)),
)  # fmt: skip
