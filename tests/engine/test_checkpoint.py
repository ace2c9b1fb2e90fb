import pytest
import torch

from vasculora.core.runtime import is_out_of_memory
from vasculora.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vasculora.engine.optim import build_optimizer, build_schedule


def trained():
    """Return a weight after three steps, with what moved it."""
    param = torch.nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
    optimizer = build_optimizer([param], lr=0.1, weight_decay=0.01)
    schedule = build_schedule(optimizer, num_steps=10, warmup=0.2)
    for _ in range(3):
        step(param, optimizer, schedule)
    return param, optimizer, schedule


def step(param, optimizer, schedule):
    optimizer.zero_grad()
    (param**3).sum().backward()
    optimizer.step()
    schedule.step()


def checkpoint(param, optimizer, schedule, epoch=3):
    return Checkpoint(
        epoch=epoch,
        weights={"param": param.detach()},
        optimizer=optimizer.state_dict(),
        schedule=schedule.state_dict(),
        metrics={"epochs": [{"epoch": 1, "val_dice": 0.5}], "best": None},
    )


def test_going_on_is_as_if_never_stopped(tmp_path):
    param, optimizer, schedule = trained()
    save_checkpoint(tmp_path / "resume.pt", checkpoint(param, optimizer, schedule))
    for _ in range(4):
        step(param, optimizer, schedule)

    kept = load_checkpoint(tmp_path / "resume.pt")
    again = torch.nn.Parameter(kept.weights["param"].clone())
    other = build_optimizer([again], lr=0.1, weight_decay=0.01)
    plan = build_schedule(other, num_steps=10, warmup=0.2)
    other.load_state_dict(kept.optimizer)
    plan.load_state_dict(kept.schedule)
    for _ in range(4):
        step(again, other, plan)
    assert torch.equal(again, param)
    assert plan.get_last_lr() == schedule.get_last_lr()


def test_numbers_come_back_as_they_were(tmp_path):
    save_checkpoint(tmp_path / "resume.pt", checkpoint(*trained()))
    kept = load_checkpoint(tmp_path / "resume.pt")
    assert kept.epoch == 3
    assert kept.metrics == {"epochs": [{"epoch": 1, "val_dice": 0.5}], "best": None}


def test_the_later_one_replaces_the_earlier(tmp_path):
    path = tmp_path / "resume.pt"
    for epoch in (1, 2):
        save_checkpoint(path, checkpoint(*trained(), epoch=epoch))
    assert load_checkpoint(path).epoch == 2
    assert [file.name for file in tmp_path.iterdir()] == ["resume.pt"]


def test_a_missing_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"resume\.pt is missing, so the run cannot be"):
        load_checkpoint(tmp_path / "resume.pt")


@pytest.mark.parametrize("left", [0, 10, 1000])
def test_a_cut_one_is_named(tmp_path, left):
    path = tmp_path / "resume.pt"
    save_checkpoint(path, checkpoint(*trained()))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"resume\.pt: the file is damaged .*another --out"):
        load_checkpoint(path)


def test_one_that_finds_no_room_is_not_called_damaged(monkeypatch, tmp_path):
    path = tmp_path / "resume.pt"
    save_checkpoint(path, checkpoint(*trained()))
    monkeypatch.setattr(torch, "load", lambda *_, **__: torch.empty(2**55))
    with pytest.raises(RuntimeError) as caught:
        load_checkpoint(path)
    assert is_out_of_memory(caught.value)


def test_no_code_is_run_from_a_file(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code from a file was run",))

    path = tmp_path / "resume.pt"
    torch.save(Trap(), path)  # noqa: TID251 - the file of an attacker
    with pytest.raises(ValueError, match="the file is damaged"):
        load_checkpoint(path)
