// A multiply-accumulate unit with a narrow register: the example device of accsim.
//
// Each rising edge of clk is a step: total = register + weight * x, exactly, and the register keeps
// total, wrapped to P bits or saturated. With start the sum begins anew: from bias, not from what the
// register holds. overflow: the last step's total was outside the register. sticky: so was that of
// some step since the sum began.
`timescale 1ns / 1ps

module mac #(
    parameter int P = 16,          // bits of the register
    parameter int SATURATE = 0,    // 0: wrap; 1: saturate
    parameter int ACC_SIGNED = 1,  // 1: two's complement; 0: without negative values
    parameter int W_BITS = 8,
    parameter int W_SIGNED = 1,
    parameter int X_BITS = 8,
    parameter int X_SIGNED = 0
) (
    input  logic              clk,
    input  logic              start,
    input  logic [P-1:0]      bias,
    input  logic [W_BITS-1:0] weight,
    input  logic [X_BITS-1:0] x,
    output logic [P-1:0]      acc,
    output logic              overflow,
    output logic              sticky
);
  // One bit more for each operand and both sets of codes are signed; and room for any total.
  localparam int PRODUCT = W_BITS + X_BITS + 2;
  localparam int TOTAL = (PRODUCT > P ? PRODUCT : P) + 2;

  localparam logic signed [TOTAL-1:0] HIGH =
      ACC_SIGNED != 0 ? {{(TOTAL-P+1){1'b0}}, {(P-1){1'b1}}} : {{(TOTAL-P){1'b0}}, {P{1'b1}}};
  localparam logic signed [TOTAL-1:0] LOW =
      ACC_SIGNED != 0 ? {{(TOTAL-P+1){1'b1}}, {(P-1){1'b0}}} : {TOTAL{1'b0}};

  logic [P-1:0] register;
  wire [P-1:0] from = start ? bias : register;
  wire from_sign = ACC_SIGNED != 0 && from[P-1];
  wire weight_sign = W_SIGNED != 0 && weight[W_BITS-1];
  wire x_sign = X_SIGNED != 0 && x[X_BITS-1];

  wire signed [TOTAL-1:0] held = {{(TOTAL-P){from_sign}}, from};
  wire signed [W_BITS:0] signed_weight = {weight_sign, weight};
  wire signed [X_BITS:0] signed_x = {x_sign, x};
  wire signed [PRODUCT-1:0] product = PRODUCT'(signed_weight) * PRODUCT'(signed_x);
  wire signed [TOTAL-1:0] total = held + TOTAL'(product);

  wire above = total > HIGH;
  wire below = total < LOW;

  always_ff @(posedge clk) begin
    if (SATURATE != 0 && above) register <= HIGH[P-1:0];
    else if (SATURATE != 0 && below) register <= LOW[P-1:0];
    else register <= total[P-1:0];
    overflow <= above || below;
    sticky <= above || below || (sticky && !start);
  end

  assign acc = register;
endmodule
