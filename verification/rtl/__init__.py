"""SystemVerilog: the example device, the bench that checks it, and what devices cost."""
