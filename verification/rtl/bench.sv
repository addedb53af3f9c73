// Checks a device against the vectors of accsim, after every step: register and both flags. The
// first wrong step is named, with the bits and their values, and ends the run with an error.
//
// Vectors are read by $readmemh from FOLDER, one word for each of STEPS steps: TAPS steps make a
// sum. To check a device of your own, put it in the place of `mac`.
`timescale 1ns / 1ps

module bench #(
    parameter int P = 2,
    parameter int SATURATE = 0,
    parameter int ACC_SIGNED = 1,
    parameter int W_BITS = 1,
    parameter int W_SIGNED = 1,
    parameter int X_BITS = 1,
    parameter int X_SIGNED = 1,
    parameter int TAPS = 0,
    parameter int STEPS = 1,
    parameter FOLDER = "."
);
  logic [W_BITS-1:0] weights[0:STEPS-1];
  logic [X_BITS-1:0] xs[0:STEPS-1];
  logic [P-1:0] biases[0:STEPS-1];
  logic [P-1:0] registers[0:STEPS-1];
  logic starts[0:STEPS-1];
  logic overflows[0:STEPS-1];
  logic stickies[0:STEPS-1];

  logic clk = 0;
  logic start;
  logic [P-1:0] bias;
  logic [W_BITS-1:0] weight;
  logic [X_BITS-1:0] x;
  wire [P-1:0] acc;
  wire overflow;
  wire sticky;

  mac #(
      .P(P), .SATURATE(SATURATE), .ACC_SIGNED(ACC_SIGNED), .W_BITS(W_BITS), .W_SIGNED(W_SIGNED),
      .X_BITS(X_BITS), .X_SIGNED(X_SIGNED)
  ) device (
      .clk(clk), .start(start), .bias(bias), .weight(weight), .x(x), .acc(acc),
      .overflow(overflow), .sticky(sticky)
  );

  // What two's complement bits, or plain ones, stand for; x where one of them is not known.
  function automatic logic signed [63:0] value(input logic [63:0] bits, input int width,
                                               input int is_signed);
    if (is_signed != 0 && bits[width-1]) return bits | ({64{1'b1}} << width);
    return bits;
  endfunction

  // A file that is short, or not there, would leave words that check nothing.
  task automatic count_words(input string name);
    int file;
    int words;
    logic [63:0] word;
    file = $fopen(name, "r");
    words = 0;
    if (file == 0) $fatal(1, "%s cannot be read", name);
    while ($fscanf(file, "%h", word) == 1) words++;
    $fclose(file);
    if (words != STEPS) $fatal(1, "%s must hold %0d words, as STEPS says, not %0d", name, STEPS, words);
  endtask

  task automatic name_register(input int k);
    logic [P-1:0] held;
    held = start ? bias : registers[k-1];
    $display("step %0d (sum %0d, tap %0d): %0d + %0d * %0d must leave the register at %b (%0d), not %b (%0d)",
             k, k / TAPS, k % TAPS,
             value(64'(held), P, ACC_SIGNED),
             value(64'(weight), W_BITS, W_SIGNED), value(64'(x), X_BITS, X_SIGNED),
             registers[k], value(64'(registers[k]), P, ACC_SIGNED),
             acc, value(64'(acc), P, ACC_SIGNED));
  endtask

  int overflowed = 0;

  initial begin
    if (TAPS == 0) $fatal(1, "bench needs its parameters: README.txt has the commands");
    count_words({FOLDER, "/weight.hex"});
    count_words({FOLDER, "/x.hex"});
    count_words({FOLDER, "/bias.hex"});
    count_words({FOLDER, "/start.hex"});
    count_words({FOLDER, "/register.hex"});
    count_words({FOLDER, "/overflow.hex"});
    count_words({FOLDER, "/sticky.hex"});
    $readmemh({FOLDER, "/weight.hex"}, weights);
    $readmemh({FOLDER, "/x.hex"}, xs);
    $readmemh({FOLDER, "/bias.hex"}, biases);
    $readmemh({FOLDER, "/start.hex"}, starts);
    $readmemh({FOLDER, "/register.hex"}, registers);
    $readmemh({FOLDER, "/overflow.hex"}, overflows);
    $readmemh({FOLDER, "/sticky.hex"}, stickies);
    for (int k = 0; k < STEPS; k++) begin
      start = starts[k];
      bias = biases[k];
      weight = weights[k];
      x = xs[k];
      #5 clk = 1;
      #5 clk = 0;
      if (acc !== registers[k]) name_register(k);
      if (overflow !== overflows[k])
        $display("step %0d (sum %0d, tap %0d): overflow must be %b, not %b", k, k / TAPS, k % TAPS,
                 overflows[k], overflow);
      if (sticky !== stickies[k])
        $display("step %0d (sum %0d, tap %0d): sticky must be %b, not %b", k, k / TAPS, k % TAPS,
                 stickies[k], sticky);
      if (acc !== registers[k] || overflow !== overflows[k] || sticky !== stickies[k])
        $fatal(1, "the device is wrong: %s", FOLDER);
      if (overflow) overflowed++;
    end
    $display("passed: %0d steps, %0d of them overflow", STEPS, overflowed);
  end
endmodule
