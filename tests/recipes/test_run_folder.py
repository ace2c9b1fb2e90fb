import shlex
from pathlib import Path

import pytest

from vasculora.data.sources import Catalog
from vasculora.data.splits import Split
from vasculora.recipes.config import FinetuneConfig, Provenance
from vasculora.recipes.run_folder import write_settings


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("DOE", "DOE"),
        ("DOE", "./DOE/"),
        ("DOE", "--data=DOE"),
        ("DOE", "DOE/settings.yaml"),
        ("DOE", f"--config={Path('DOE').absolute() / 'settings.yaml'}"),
        ("/cd/DOE", "/cd/DOE/../run"),
        ("/cd/DOE", "data.path=/cd/DOE"),
    ],
)
def test_the_path_of_private_data_is_in_no_word_of_the_command(tmp_path, data, word):
    words = ["vasculora", "finetune", word, "--epochs", "1"]
    provenance = Provenance(
        command=shlex.join(words), versions={}, base_fingerprint="b", data_fingerprint="d"
    )
    config = FinetuneConfig(data={"path": Path(data)}, provenance=provenance)
    catalog = Catalog(source="dicom", records=(), notes=(), secret=True)
    write_settings(tmp_path, config, catalog, Split(train=(), val=()))
    written = (tmp_path / "config.yaml").read_text()
    assert "DOE" not in written
    assert "PRIVATE" in written
    assert "vasculora finetune" in written
