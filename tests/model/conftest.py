"""What tests of the model share: three questions of unlike lengths, together and one by one."""

from dataclasses import replace

import pytest
from tests.conftest import draw


@pytest.fixture
def prompts(opened):
    """Three questions of different lengths about three pictures."""
    cases = [draw("xray", 0), draw("octa", 1, size=48), draw("fundus", 2)]
    phrases = ["blood vessel", "a much longer name of the vessel that is meant", "background"]
    return opened.processor.prompts(
        [case.case_id for case in cases], [case.image for case in cases], phrases
    )


def alone(prompts, row):
    """Return one question of a batch, without the others' padding."""
    length = int(prompts.attention_mask[row].sum())
    return replace(
        prompts,
        case_ids=prompts.case_ids[row : row + 1],
        sizes=prompts.sizes[row : row + 1],
        input_ids=prompts.input_ids[row : row + 1, :length],
        attention_mask=prompts.attention_mask[row : row + 1, :length],
        labels=prompts.labels[row : row + 1, :length],
        mllm_pixels=prompts.mllm_pixels[row : row + 1],
        sam_pixels=prompts.sam_pixels[row : row + 1],
    )
