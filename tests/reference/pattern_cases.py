"""The block patterns of the reference: parameters of the recorded masks, and the recorded runs."""

CHECKPOINT = "qwen2"  # of the recorded runs, with 3 layers
LENGTH, BLOCK, STEPS = 205, 4, 8  # 52 blocks, the last one ragged


def power(window, sink):
    return dict(pattern="power", window=window, sink=sink)


def sliding(window, sink):
    return dict(pattern="sliding", window=window, sink=sink)


def stride(window, step, sink):
    return dict(pattern="stride", window=window, stride=step, sink=sink)


def dilated(window):
    return dict(pattern="dilated", window=window)


def listed(distances, sink):
    return dict(pattern="mask", distances=distances, sink=sink)


LONGNET, FULL = dict(pattern="longnet"), dict(pattern="full")

# Each is recorded for every number of blocks.
MASK_BLOCKS = (1, 7, 64, 128, 200)
MASK_SPECS = (
    power(5, 1), power(2, 1), power(1, 0), power(9, 3), power(12, 0), power(300, 1),
    sliding(9, 1), sliding(5, 1), sliding(1, 0), sliding(3, 4), sliding(2, 250),
    stride(6, 32, 1), stride(3, 8, 1), stride(1, 1, 0), stride(1, 5, 2), stride(10, 4, 0),
    stride(7, 300, 1),
    dilated(20), dilated(10), dilated(1), dilated(2), dilated(7), dilated(500),
    LONGNET, FULL,
    listed([0, 1, 3, 9, 27], 0), listed([0], 0), listed([0, 2, 5, 199], 2),
    listed([0, 4, 6, 7, 100, 101, 5000], 1))

# Name of a run -> (pattern of each layer, the options that ask for it). {distances} is a file.
RUNS = {
    "power": ([power(2, 1)] * 3, "--attention power --window 2 --sink 1"),
    "sliding": ([sliding(5, 1)] * 3, "--attention sliding --window 5 --sink 1"),
    "stride": ([stride(3, 8, 1)] * 3, "--attention stride --window 3 --stride 8 --sink 1"),
    "dilated": ([dilated(10)] * 3, "--attention dilated --window 10"),
    "longnet": ([LONGNET] * 3, "--attention longnet"),
    "mask": ([listed([0, 1, 3, 9, 27], 0)] * 3, "--attention mask:{distances}"),
    "power-full1": ([power(2, 1), FULL, power(2, 1)],
                    "--attention power --window 2 --sink 1 --full-layers 1"),
    "sliding-per2of3": ([FULL, FULL, sliding(5, 1)],
                        "--attention sliding --window 5 --sink 1 --full-per 2/3"),
}
DISTANCES = "0 1 3 9 27\n"
