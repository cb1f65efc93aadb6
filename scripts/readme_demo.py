"""Put a run's own table into the README: `python -m scripts.readme_demo runs/demo` rewrites what is between the marks.

So the README never says a figure that no record holds. Also copies the picture beside it.
"""

import shutil
import sys
from pathlib import Path

from farm.reduce import cell_rows
from farm.rows import CellRow
from farm.store import RunFolder

PICTURES = ("benchmarks/summary_table.png", "benchmarks/latency_vs_context.png")
MARKS = ("<!-- demo:begin -->", "<!-- demo:end -->")
WORDS = {
    "README.md": (
        "From `make demo` on {device}, {commit} (medians of {runs} runs; the weights come from a 4-bit file,\n"
        "so its `fp32` is a de-quantized baseline):",
        "| precision | cache | context | decode tok/s [95 %] | TTFT ms | PPL (change) | verdict |",
    ),
    "README.es.md": (
        "De `make demo` en {device}, {commit} (medianas de {runs} repeticiones; los pesos vienen de un\n"
        "fichero de 4 bits, así que su `fp32` es una base descuantizada):",
        "| precisión | caché | contexto | decode tok/s [95 %] | TTFT ms | PPL (cambio) | veredicto |",
    ),
}


def main() -> None:
    run = Path(sys.argv[1])
    records = RunFolder(run.absolute()).results()
    rows = [row for row in cell_rows(records) if row.kind == "speed" and row.is_ok]
    commit = next(r.environment.farm_commit for r in records if r.environment) or "unknown commit"
    facts = {"device": f"{rows[0].device_name} (2 cores)", "commit": commit[:7], "runs": rows[0].decode_tok_s.n}
    for picture in PICTURES:
        Path("docs/images").mkdir(parents=True, exist_ok=True)
        shutil.copy(run / picture, Path("docs/images") / Path(picture).name)
    for name, (intro, head) in WORDS.items():
        table = "\n".join([head, "|---|---|---|---|---|---|---|", *map(_line, rows)])
        pictures = "\n\n".join(f"![{Path(p).stem}](docs/images/{Path(p).name})" for p in PICTURES)
        _replace(Path(name), f"{intro.format(**facts)}\n\n{table}\n\n{pictures}")


def _line(row: CellRow) -> str:
    rate, ttft = row.decode_tok_s, row.ttft_s
    change = row.quality.perplexity_delta_percent
    told = f"{row.quality.perplexity:.2f} ({change:+.1f} %)" if change is not None else f"{row.quality.perplexity:.2f}"
    speed = f"{rate.median:.1f} [{rate.ci_low:.1f}, {rate.ci_high:.1f}]"
    cells = (row.quantization, row.cache_mode, row.context_tokens, speed, f"{1e3 * ttft.median:.0f}", told)
    return "| " + " | ".join(map(str, (*cells, row.trust.verdict))) + " |"


def _replace(file: Path, text: str) -> None:
    before, _, rest = file.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    file.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
