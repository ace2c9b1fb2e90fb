"""The closed table of public vessel sets: a new one is one row here and one fixture in the tests.

Terms are the sets' own, as far as they were found; nothing is downloaded or shipped. Where the
authors divide a set into parts, their parts are the split.
"""

from vasculora.data.sources.rules import PublicSet, Rule
from vasculora.data.splits import Part

# A set may have been unpacked into a folder of its own below the one that is given.
_ABOVE = r"(?P<above>(?:[^/]+/)*)"
_TRAIN_TEST: dict[str, Part] = {"train": "train", "training": "train", "test": "test"}
_OCTA_LABELS = {
    "large blood vessel": "LargeVessel",
    "artery": "Artery",
    "vein": "Vein",
    "capillary": "Capillary",
    "foveal avascular zone": "FAZ",
}

PUBLISHED = (
    PublicSet(
        name="drive",
        origin="Staal et al. 2004, IEEE TMI 23(4); drive.grand-challenge.org",
        terms="on registration; not verified",
        markers=(("training/1st_manual",), ("*/training/1st_manual",), ("test/1st_manual",)),
        rules=(
            Rule(
                image=_ABOVE + r"(?P<part>training|test)/images/(?P<name>\d+)_(?:training|test)",
                masks={None: ("{above}{part}/1st_manual/{name}_manual1",)},
                second=("{above}{part}/2nd_manual/{name}_manual2",),
                fov=("{above}{part}/mask/{name}_{part}_mask",),
                case="{name}_{part}",
                parts=_TRAIN_TEST,
            ),
        ),
    ),
    PublicSet(
        name="chase_db1",
        origin="Fraz et al. 2012, IEEE TBME 59(9); Kingston University",
        terms="CC BY 4.0; not verified",
        markers=(("Image_[0-9][0-9][LR]_1stHO.*",), ("*/Image_[0-9][0-9][LR]_1stHO.*",)),
        rules=(
            Rule(
                image=_ABOVE + r"Image_(?P<child>\d\d)(?P<eye>[LR])",
                masks={None: ("{above}Image_{child}{eye}_1stHO",)},
                second=("{above}Image_{child}{eye}_2ndHO",),
                fov=(
                    "{above}Image_{child}{eye}_mask",
                    "{above}mask/Image_{child}{eye}_mask",
                    "{above}masks/Image_{child}{eye}_mask",
                    "fov_masks_lwnet/Image_{child}{eye}",
                ),
                case="Image_{child}{eye}",
                group="{child}",
            ),
        ),
        group_rule="one a child, whose number is in the file names",
    ),
    PublicSet(
        name="stare",
        origin="Hoover et al. 2000, IEEE TMI 19(3); cecas.clemson.edu/~ahoover/stare",
        terms="not verified",
        markers=(
            ("im[0-9][0-9][0-9][0-9].ppm*", "labels-ah"),
            ("*/im[0-9][0-9][0-9][0-9].ppm*", "labels-ah"),
            ("im[0-9][0-9][0-9][0-9].*", "im[0-9][0-9][0-9][0-9].ah.*"),
        ),
        rules=(
            Rule(
                image=_ABOVE + r"(?P<name>im\d{4})",
                masks={
                    None: ("labels-ah/{name}.ah", "{above}labels-ah/{name}.ah", "{above}{name}.ah")
                },
                second=("labels-vk/{name}.vk", "{above}labels-vk/{name}.vk", "{above}{name}.vk"),
            ),
        ),
    ),
    PublicSet(
        name="hrf",
        origin="Budai et al. 2013, Int. J. Biomed. Imaging; www5.cs.fau.de, fundus images",
        terms="CC BY 4.0; not verified",
        markers=(("images", "manual1"), ("*/images", "*/manual1")),
        rules=(
            Rule(
                image=_ABOVE + r"images/(?P<name>[^/]+)",
                masks={None: ("{above}manual1/{name}",)},
                fov=("{above}mask/{name}_mask",),
            ),
        ),
    ),
    PublicSet(
        name="fives",
        origin="Jin et al. 2022, Scientific Data 9:475; figshare",
        terms="CC BY 4.0; not verified",
        markers=(("train/Ground truth",), ("*/train/Ground truth",), ("test/Ground truth",)),
        rules=(
            Rule(
                image=_ABOVE + r"(?P<part>train|test)/Original/(?P<name>[^/]+)",
                masks={None: ("{above}{part}/Ground truth/{name}",)},
                case="{part}/{name}",
                parts=_TRAIN_TEST,
            ),
        ),
    ),
    PublicSet(
        name="dca1",
        origin="Cervantes-Sanchez et al. 2019, Applied Sciences 9(24):5507; CIMAT",
        terms="for research, with citation; not verified",
        markers=(("[0-9]*_gt.pgm",), ("*/[0-9]*_gt.pgm",)),
        rules=(Rule(image=_ABOVE + r"(?P<name>\d+)", masks={None: ("{above}{name}_gt",)}),),
    ),
    PublicSet(
        name="xcad",
        origin="Ma et al. 2021, ICCV (self-supervised vessel segmentation); the authors' page",
        terms="not verified",
        markers=(("test/img", "test/gt"), ("*/test/img", "*/test/gt")),
        never=("train/gt", "*/train/gt"),
        rules=(
            Rule(
                image=_ABOVE + r"(?P<part>train|test)/img/(?P<name>[^/]+)",
                masks={None: ("{above}{part}/gt/{name}",)},
                case="{part}/{name}",
                parts=_TRAIN_TEST,
            ),
        ),
        note="XCAD's training images have no masks; those of its test part are what is annotated.",
    ),
    PublicSet(
        name="octa500",
        origin="Li et al. 2024, Medical Image Analysis 93:103092; IEEE DataPort",
        terms="for research, on registration; not verified",
        markers=(
            ("ProjectionMaps/OCTA(ILM_OPL)", "GT_*"),
            ("*/ProjectionMaps/OCTA(ILM_OPL)", "*/GT_*"),
            ("*/*/ProjectionMaps/OCTA(ILM_OPL)", "*/*/GT_*"),
            ("Training/*_images", "Training/*_labels"),
        ),
        rules=(
            Rule(
                image=_ABOVE + r"ProjectionMaps/OCTA\(ILM_OPL\)/(?P<name>\d+)",
                masks={
                    phrase: (f"{{above}}GT_{label}/{{name}}",)
                    for phrase, label in _OCTA_LABELS.items()
                },
                group="{name}",
                part_of_number={
                    range(10001, 10181): "train",
                    range(10181, 10201): "val",
                    range(10201, 10301): "test",
                    range(10301, 10441): "train",
                    range(10441, 10451): "val",
                    range(10451, 10501): "test",
                },
            ),
            Rule(
                image=r"(?P<part>Training|Validation|Test)/(?P<stem>[^/]+)_images/(?P<name>\d+)",
                masks={None: ("{part}/{stem}_labels/{name}",)},
                group="{name}",
                parts={"training": "train", "validation": "val", "test": "test"},
            ),
        ),
        group_rule="one a subject, whose number is the file name",
    ),
    PublicSet(
        name="rose",
        origin="Ma et al. 2021, IEEE TMI 40(3); imed.nimte.ac.cn",
        terms="academic research only, says the authors' repository",
        markers=(
            ("SVC/train/img",),
            ("*/SVC/train/img",),
            ("*/*/SVC/train/img",),
            ("train/original", "train/gt"),
            ("*/train/original", "*/train/gt"),
        ),
        rules=(
            Rule(
                image=_ABOVE
                + r"(?P<layer>SVC|DVC|SVC_DVC)/(?P<part>train|test)/img/(?P<name>[^/]+)",
                masks={None: ("{above}{layer}/{part}/gt/{name}",)},
                case="{layer}/{part}/{name}",
                # The same eye in three layers; train and test number theirs from 1 each.
                group="{part}-{name}",
                parts=_TRAIN_TEST,
            ),
            Rule(
                image=_ABOVE + r"(?P<part>train|test)/original/(?P<name>[^/]+)",
                masks={None: ("{above}{part}/gt/{name}",)},
                case="ROSE-2/{part}/{name}",
                parts=_TRAIN_TEST,
            ),
        ),
        group_rule="the layers of one image of ROSE-1 together, each image of ROSE-2 alone",
    ),
)
