"""A cocotb test of a device, as a user would write it; `test_rtl.py` runs it on Icarus Verilog."""

import os
import random

import cocotb
from cocotb.triggers import Timer

from accsim import Accumulator
from verification.rtl_model import Scoreboard


@cocotb.test()
async def every_step_is_right(dut):
    """Random operands, at their ends more than elsewhere; sums of 1 to 12 steps."""
    bits, sign = int(os.environ["P"]), os.environ["ACC_SIGNED"] == "1"
    register = Accumulator(bits, os.environ["OVERFLOW"], signed=sign)
    draw = random.Random(0)
    board = Scoreboard(register)
    dut.clk.value = 0
    for _ in range(100):
        bias = draw.randint(register.min, register.max)
        for tap in range(draw.randint(1, 12)):
            weight = draw.choice([-128, 127, draw.randint(-128, 127)])
            x = draw.choice([0, 255, draw.randint(0, 255)])
            dut.start.value, dut.bias.value = int(tap == 0), bias & ((1 << bits) - 1)
            dut.weight.value, dut.x.value = weight & 255, x
            await Timer(5, "ns")
            dut.clk.value = 1
            await Timer(5, "ns")
            dut.clk.value = 0
            board.step(
                weight,
                x,
                bias=bias if tap == 0 else None,
                register=dut.acc.value,
                overflow=dut.overflow.value,
                sticky=dut.sticky.value,
            )
    assert board.overflowed > 50
    dut._log.info("%d steps, %d overflow", board.steps, board.overflowed)
