// Sizes of one kernel, fixed at compile time (-DLSTM_HIDDEN=... and so on; table.csv holds the sets that are built), and
// where things lie in shared memory.
#pragma once
#ifndef LSTM_HIDDEN  // only so that an editor can parse the files; the build names every one
#define LSTM_HIDDEN 64
#define LSTM_CLUSTER 1
#define LSTM_TILE 8
#define LSTM_HELD 8
#define LSTM_BUFFERS 2
#define LSTM_FP16 0
#define LSTM_BACKWARD 0
#endif

constexpr bool BACKWARD = LSTM_BACKWARD;
constexpr bool FP16 = LSTM_FP16;         // storage type: fp16, else bf16
constexpr int HIDDEN = LSTM_HIDDEN;      // units, padded: H <= HIDDEN, units H.. have zero weights and stay zero
constexpr int CLUSTER = LSTM_CLUSTER;    // blocks that share one batch tile
constexpr int TILE = LSTM_TILE;          // sequences of a cluster
constexpr int HELD = LSTM_HELD;          // weight fragments that a warp keeps in registers; the others are in shared memory
constexpr int BUFFERS = LSTM_BUFFERS;    // exchange buffers

constexpr int WARPS = HIDDEN / CLUSTER / 8;            // a warp owns 8 units
constexpr int THREADS = WARPS * 32;
constexpr int N = TILE / 8;                            // the product takes 8 sequences at a time
constexpr int COLUMNS = BACKWARD ? 4 * HIDDEN : HIDDEN;  // exchanged per sequence: dz (four gates) or h
constexpr int LD = COLUMNS + 8;                        // padding: the 8 rows of a tile fall into different banks
// Forward: 32 rows (four gates of 8 units) of two row tiles, all of h. Backward: 16 rows (the units of two warps), half
// of dz; the partner has the other half. Either way HIDDEN / 8 fragments of 16 x 16 per warp.
constexpr int ROW_TILES = BACKWARD ? 1 : 2;
constexpr int FRAGMENTS = HIDDEN / 8;
constexpr int STEPS = FRAGMENTS / ROW_TILES;           // of 16 columns
constexpr int CHAINS = BACKWARD ? 4 / N : 2 / N;       // independent sums: a product waits for the one before it

// bytes of shared memory, in this order; every part is a multiple of 16
constexpr int COUNTERS = 64;
constexpr int EXCHANGE = BUFFERS * TILE * LD * 2;
constexpr int RESIDENT = WARPS * (FRAGMENTS - HELD) * 512;
constexpr int STAGE_ROWS = 5 * 8;                      // per warp and 8 sequences: four gates and h, 8 x 8 each
constexpr int STAGING = WARPS * N * STAGE_ROWS * 16;
constexpr int SWAP = BACKWARD ? WARPS * N * 32 * 8 : 0;
constexpr int SHARED = COUNTERS + EXCHANGE + RESIDENT + STAGING + SWAP;

static_assert(HIDDEN % 32 == 0 && WARPS * CLUSTER * 8 == HIDDEN, "no whole tile per warp");
static_assert(TILE == 8 || TILE == 16, "a tile has 8 or 16 sequences");
static_assert(HELD % 4 == 0 && HELD <= FRAGMENTS, "fragments are held in fours");
static_assert(!BACKWARD || WARPS % 2 == 0, "two warps share a row tile");
static_assert(WARPS <= 16, "named barriers and registers end there");
static_assert(BUFFERS == 2 || (BUFFERS == 1 && BACKWARD && CLUSTER > 1), "one buffer needs the handshake of the backward");
static_assert(SHARED <= 232448, "more shared memory than a block may have");
#ifdef LSTM_SHARED
static_assert(SHARED == LSTM_SHARED, "the table names another size of shared memory");
#endif
