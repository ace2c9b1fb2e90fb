"""Hide altered neighbouring frames of two cines among other images, and look for duplicates."""

import argparse
import io
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from benchmarks.results import write_result
from PIL import Image

from vasculora.core.io import read_image
from vasculora.data.leaks import LEAST_CORRELATION, find_near_duplicates, fingerprint
from vasculora.data.synthetic.styles import STYLES, draw_case

HERE = Path(__file__).parent
OCTA = "octa500_3m/OCTA-500/*/*images/*.bmp"
DEMO_SEED = 2025  # what `vasculora demo` draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "../shared/data")
    parser.add_argument("--num", type=int, default=2000, help="drawn images to hide frames among")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    result = {"num_drawn": args.num, "seed": args.seed, "bar": LEAST_CORRELATION}
    result |= {"threads": torch.get_num_threads()}
    result["hidden"] = hidden(args.data, args.num, args.seed)
    result["sets"] = {name: alone(images) for name, images in other_sets(args.data).items()}
    print(json.dumps(result, indent=2))
    write_result(__file__, args.label, result)


def hidden(data: Path, num: int, seed: int) -> dict:
    """Find each frame's altered neighbour among drawn images, OCTA and the cines' other frames.

    Every second frame stays as it is, the ones between are altered, and a frame's part of the split
    is whether it is altered: every pair of neighbours lies across it.
    """
    rng = np.random.default_rng(seed)
    images, parts, wanted = {}, {}, set()
    for cine in sorted((data / "xca_sequences").iterdir()):
        paths = sorted(cine.glob("*.jpg"))
        for i, path in enumerate(paths):
            image = read_image(path)
            images[path.stem] = alter(image, rng) if i % 2 else image
            parts[path.stem] = "val" if i % 2 else "train"
        wanted |= {frozenset((a.stem, b.stem)) for a, b in pairwise(paths)}
    for i, path in enumerate(sorted(data.glob(OCTA))):
        images[path.stem], parts[path.stem] = read_image(path), "val" if i % 2 else "train"
    cine_of = {name: name.partition("_")[0] for pair in wanted for name in pair}
    start = time.perf_counter()
    for i, (name, image) in enumerate(drawn(num, seed)):
        images[name], parts[name] = image, "train" if i % 5 else "val"
    drawing = time.perf_counter() - start
    wall, cpu = time.perf_counter(), time.process_time()
    prints = {name: fingerprint(image) for name, image in images.items()}
    printing = time.perf_counter() - wall
    pairs = find_near_duplicates(prints, parts=parts)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {frozenset((pair.a, pair.b)): pair.correlation for pair in pairs}
    # frames of one cine that are no neighbours are alike too, and rightly named
    false = [p for p in found if len({cine_of.get(name, name) for name in p}) > 1]
    return {
        "num_images": len(images),
        "neighbours": len(wanted),
        "found": len(wanted & set(found)),
        "least_correlation_found": round(min(found[p] for p in wanted & set(found)), 3),
        "missed": sorted(map(sorted, wanted - set(found))),
        "other_pairs_of_one_cine": len(found) - len(wanted & set(found)) - len(false),
        "false": sorted(map(sorted, false)),
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "of_which_fingerprints_wall": round(printing, 1),
        "drawing_seconds_not_counted": round(drawing, 1),
        "bytes_kept_an_image": sum(p.square.nbytes + p.bits.nbytes for p in prints.values())
        // len(prints),
    }


def alter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a frame moved up to 4 pixels each way, brightened or darkened, and encoded anew."""
    down, right = rng.integers(-4, 5, size=2)
    padded = np.pad(image.astype(float), ((4, 4), (4, 4), (0, 0)), mode="edge")
    moved = padded[4 - down :, 4 - right :][: image.shape[0], : image.shape[1]]
    grey = np.clip(moved * rng.uniform(0.7, 1.3) + rng.uniform(-30, 30), 0, 255)
    file = io.BytesIO()
    quality = int(rng.integers(40, 91))
    Image.fromarray(grey.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def drawn(num: int, seed: int):
    """Yield drawn images of all styles in turn, 128 to 256 pixels wide."""
    names = sorted(STYLES)
    for i in range(num):
        rng = np.random.default_rng((seed, i))
        style, size = names[i % len(names)], int(rng.integers(128, 257))
        yield (
            f"{style}{i}",
            draw_case(style, size=size, rng=rng, case_id=str(i)).image,
        )


def other_sets(data: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return sets in which hardly a picture is there twice, and the demo's."""
    patterns = {
        "octa500_3m": OCTA,
        "cimat_angios": "cimat_angios/*[0-9].png",
        "chase_db1": "chase_db1/**/Image_*.jpg",
        "arcade_syntax": "arcade/syntax/*/images/*.png",
    }
    sets = {}
    for name, pattern in patterns.items():
        paths = sorted(data.glob(pattern))
        sets[name] = {f"{path.parts[-3]}/{path.stem}": read_image(path) for path in paths}
    sets["demo"] = {
        str(i): draw_case(
            "xray", size=256, rng=np.random.default_rng((DEMO_SEED, i)), case_id=str(i)
        ).image
        for i in range(240)
    }
    return sets


def alone(images: dict[str, np.ndarray]) -> dict:
    """Return all pairs found within one set, and the most alike of those below the bar."""
    prints = {name: fingerprint(image) for name, image in images.items()}
    pairs = find_near_duplicates(prints, least=0.05)
    told = [[p.a, p.b, round(p.correlation, 2)] for p in pairs]
    over = [pair for pair, p in zip(told, pairs, strict=True) if p.correlation >= LEAST_CORRELATION]
    return {"num_images": len(images), "pairs": over, "next": told[len(over) : len(over) + 3]}


if __name__ == "__main__":
    main()
