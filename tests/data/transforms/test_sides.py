import pytest

from vasculora.data.sources.arcade import PHRASES
from vasculora.data.transforms.sides import Flips, allowed_flips, rename_sides

ACROSS = Flips(left_right=True, up_down=False, diagonal=False)
ALONG = Flips(left_right=False, up_down=True, diagonal=False)
BOTH = Flips(left_right=True, up_down=True, diagonal=False)
FREE = Flips(left_right=True, up_down=True, diagonal=True)
BOUND = Flips(left_right=False, up_down=False, diagonal=False)

PLACES = [
    # phrase, after left-right, after up-down
    ("the vessel on the left", "the vessel on the right", None),
    ("Left vessel", "Right vessel", None),
    ("left blood vessels", "right blood vessels", None),
    ("leftmost vessel of the picture", "rightmost vessel of the picture", None),
    ("the vessel to the right of the catheter", "the vessel to the left of the catheter", None),
    ("left-hand side", "right-hand side", None),
    ("upper left corner", "upper right corner", "lower left corner"),
    ("vessel at the top", None, "vessel at the bottom"),
    ("vessel above the optic disc", None, "vessel below the optic disc"),
    ("the superior vessel", None, "the inferior vessel"),
    ("vessels left and right", "vessels right and left", None),
    ("LEFT VESSEL", "RIGHT VESSEL", None),
    ("left shape", "right shape", None),
    ("左侧血管", "右侧血管", None),
    ("图像左上角的血管", "图像右上角的血管", "图像左下角的血管"),
    ("右边的血管", "左边的血管", None),
    ("导管上方的血管", None, "导管下方的血管"),
    ("血管,左", "血管,右", None),
]


@pytest.mark.parametrize(("phrase", "across", "along"), PLACES)
def test_a_place_swaps_its_side_and_keeps_all_else(phrase, across, along) -> None:
    assert allowed_flips([phrase]) == Flips(left_right=True, up_down=True, diagonal=False)
    assert rename_sides(phrase, ACROSS) == (across or phrase)
    assert rename_sides(phrase, ALONG) == (along or phrase)
    # a flip is its own way back
    assert rename_sides(rename_sides(phrase, BOTH), BOTH) == phrase


@pytest.mark.parametrize(
    "phrase",
    [
        "left coronary artery",
        "Right coronary artery",
        "left anterior descending artery",
        "left side of the heart",
        "coronary artery on the left",
        "left main",
        "vessels of the right eye",
        "left and right coronary arteries",
        "inferior vena cava",
        "superior temporal vein",
        "LAD",
        "LM",
        "D1 branch",
        "septal branch",
        "ramus intermedius",
        "the vessel that runs leftwards",
        "posterior descending artery",
        "obtuse marginal branch",
        "左冠状动脉",
        "左前降支",
        "前降支",
        "右眼血管",
        "左侧冠状动脉",
        "左动脉",
        "上腔静脉",
        "颞上静脉",
    ],
)
def test_a_part_of_a_body_forbids_every_flip(phrase) -> None:
    assert allowed_flips([phrase]) == BOUND
    assert allowed_flips(["blood vessel", phrase]) == BOUND


@pytest.mark.parametrize("phrase", [name for name in PHRASES.values() if "segment" in name])
def test_segments_of_the_syntax_score_forbid_every_flip(phrase) -> None:
    assert allowed_flips([phrase]) == BOUND


@pytest.mark.parametrize(
    "phrase",
    [
        "blood vessel",
        "coronary artery",
        "coronary artery stenosis",
        "nasal vessels",
        "bright vessel",
        "upright vessel",
        "cleft",
        "stopped vessel",
        "血管",
        "冠状动脉",
        "图上的血管",
        "以上血管",
    ],
)
def test_a_phrase_without_sides_is_free_and_stays(phrase) -> None:
    assert allowed_flips([phrase]) == FREE
    assert rename_sides(phrase, BOTH) == phrase


def test_a_flip_that_was_not_done_renames_nothing() -> None:
    assert rename_sides("upper left vessel", BOUND) == "upper left vessel"
    assert rename_sides("upper left vessel", ALONG) == "lower left vessel"
    assert rename_sides("upper left vessel", BOTH) == "lower right vessel"
