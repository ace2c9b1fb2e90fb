"""What is drawn for a sample is the same whichever process takes it, and new in every epoch."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from vasculora.data.dataset import VesselDataset
from vasculora.data.sources import read_source
from vasculora.data.synthetic.export import write_dataset
from vasculora.data.transforms import build_augment


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("lots") / "drawn"
    write_dataset(path, style="octa", num=4, size=64, seed=3)
    return read_source(path).records


def taken(records, *, epoch, num_workers=0, transform=None):
    data = VesselDataset(records, phrase="vessel", transform=transform, seed=5)
    data.set_epoch(epoch)
    batches = DataLoader(data, batch_size=2, num_workers=num_workers, collate_fn=list)
    return [sample for batch in batches for sample in batch]


def test_workers_draw_what_one_process_draws(records):
    strong = build_augment("strong", "octa")
    alone = taken(records, epoch=1, transform=strong)
    shared = taken(records, epoch=1, transform=strong, num_workers=2)
    assert len(alone) == 4
    for one, other in zip(alone, shared, strict=True):
        assert one.lot == other.lot
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)


def test_every_epoch_draws_anew_and_an_augmentation_changes_no_lot(records):
    lots = [[sample.lot for sample in taken(records, epoch=epoch)] for epoch in (1, 2)]
    assert len({*lots[0], *lots[1]}) == 8
    varied = taken(records, epoch=2, transform=build_augment("light"))
    assert [sample.lot for sample in varied] == lots[1]
