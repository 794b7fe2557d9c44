// What a decode step is made of: instructions that one persistent launch carries out one after the other.
// The layout is mirrored by program.py, field for field.
#pragma once

enum Op { EMBED = 0, MATVEC = 1, ATTEND = 2, COMBINE = 3, EXPERTS_UP = 4, EXPERTS_DOWN = 5, NORM = 6, ADD = 7, ROPE = 8, ACT = 9, CHOOSE = 10, LAYER_NORM = 11 };     // the last is no instruction
// The program's instructions, a bit each: what it has none of is left out of the kernels.
#ifndef OPS
#define OPS 0xffffffff
#endif
#define DOES(op) (((unsigned)(OPS) >> (op)) & 1)
enum Norm { NO_NORM = 0, RMS = 1, LAYER = 2 };
enum Act { NO_ACT = 0, SWIGLU = 1, SWIGLU_OAI = 2, GELU = 3 };

// FIRST_PICK: the largest row may be the next token; PICK: and this is the last to compare; FINAL: the host reads the
// output, which is not in the two sets of exchange.cuh; JOINED: x may still be in attention's splits.
enum Flag { FLOATS_OF_X = 1, SUMS_OF_X = 2, PLANES_OF_X = 4, PICK = 8, FIRST_PICK = 16, FINAL = 32, JOINED = 64 };

#define MAX_PARTS 4
#define MAX_CHOSEN 8

struct Part {                   // a stored matrix, or E of them, of one type
    const u8* base;
    u64 expert_bytes;           // from one expert to the next
    int type, groups, rows, row0;   // groups of rows: octets, or single rows of floats; row0: its first row in the stacked output
};

struct Instruction {
    int op, k, n_out, n_parts;  // k: length of x; n_out: of out, where it differs
    Part parts[MAX_PARTS];
    const float* x;
    const float* x2;            // second operand: router logits, or the other addend
    const float* norm_w;
    const float* norm_b;
    const float* bias;
    const float* residual;
    float* out;
    float eps;
    int norm, act, tiles;       // tiles: groups of output rows that blocks share out (pairs of groups with SwiGLU)
    int share_q, share_r;       // tiles / blocks and tiles % blocks
    int flags;
    int tile0;                  // the first tile
    int n_experts, n_chosen;
    // attention
    const float* k_in;
    const float* v_in;
    const float* sinks;
    float* partial;             // of attention's splits: unnormalized sums, then maximum and denominator (attention.cuh)
    int n_head, n_kv_head, layer, window;
    int table, n_rot, pairing, rotate;  // table: index into State::tables; pairing 0: (2j, 2j+1), 1: (j, j + n_rot/2)
    float scale;
    int max_splits;
    int* chosen;                // CHOOSE: ids; out gets the weights
};
#ifdef INSTRUCTION_BYTES
static_assert(sizeof(Instruction) == INSTRUCTION_BYTES, "program.py disagrees");
#endif

#define N_TABLES 4
#define RING 8

struct Result { int token, drawn, status, position; };

DEV bool is_up(const Instruction& I) { return DOES(EXPERTS_UP) && I.op == EXPERTS_UP; }
DEV bool is_down(const Instruction& I) { return DOES(EXPERTS_DOWN) && I.op == EXPERTS_DOWN; }
DEV bool is_product(const Instruction& I) { return I.op == MATVEC || is_up(I) || is_down(I); }

struct State {                  // one job's position and sampler, all that changes from step to step
    int token, position, drawn, status; // status: 1 once logits were not finite
    u32 barrier, done, ticket, stage;
    u8* cache;                  // keys of all layers, then values: (layer, kv head, position, head_dim)
    u64 value_offset;           // bytes from a key to its value
    u64 layer_bytes;
    int capacity;               // positions
    int vocab;                  // rows that may be drawn
    int greedy, pad0;           // 1: the decode launch picks the token itself
    const float* tables[N_TABLES];      // rows of n_rot/2 cosines, then n_rot/2 sines, by position
    u64 stream;                 // where the seed's random numbers begin
    double temperature, penalty, top_p, min_p;
    int top_k, n_logits;
    u8* seen;                   // by token: 1 once generated
    Result results[RING];
};
#ifdef STATE_BYTES
static_assert(sizeof(State) == STATE_BYTES, "program.py disagrees");
#endif
