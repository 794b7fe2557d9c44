// The persistent launch's shared memory, and what its blocks know of themselves.
#pragma once

// For timing only: when thread 0 was where, in nanoseconds, eight by (instruction, block).
#ifdef STAMPS
__device__ long long* stamp_at;
DEV long long nanoseconds() {
    long long t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}
extern "C" __global__ void set_stamps(long long* p) { stamp_at = p; }
#define STAMP(i) do { if (threadIdx.x == 0 && stamp_at) stamp_at[((u64)((Shared*)smem)->at * gridDim.x + blockIdx.x) * 8 + (i)] = nanoseconds(); } while (0)
#else
#define STAMP(i)
#endif

#define THREADS 480             // that compute; one more warp looks ahead, so that each thread can have 128 registers
#define ALL_THREADS (THREADS + 32)
#define WARPS 15
#define BATCH_GROUPS 256        // groups of rows whose partial sums fit in shared memory; the host cuts instructions so
#define MAX_RUNS 8              // of a block: parts, experts, or gate and up of the experts that its tiles touch
#define RECORDS 8               // instructions that are here or on their way

// A run: neighbouring groups of one stored matrix, one stream of bytes.
struct Run {
    const u8* base;                     // of the first expert
    u64 expert_bytes;
    int type, groups, rows, row0;       // row0: first row of the output, of the stacked matrix or of the expert
    int part;                           // first float of its partial sums
    short slot, input;                  // which of the chosen experts; which of the prepared vectors it multiplies
    int per, units;                     // units of a group, and of all
    float inv_per, inv_total;
    int before, total;                  // units of the runs before it, and of all
    int stride;                         // bytes of a group
    short unit, chunk;                  // bytes of a unit; units of a chunk
};

// A block's runs of an instruction, and its rows of output.
struct Plan { int n, rows, traits, aligned; Run runs[MAX_RUNS]; };
// What the launch's main loop asks of an instruction. PLAIN: a product, with nothing before or after it. APART: no barrier
// before it, since what a product reads last, the next one writes behind its own first barrier.
enum Trait { PLAIN = 1, APART = 2, PRODUCT = 4, DOWN = 8, MORE = 16 };

struct Record { Instruction instruction; Plan plan; };

struct Best { float value; int index; };      // of a block's rows

// What the thread that finishes a row has found out or asked for before the product.
#define KEPT 128                // rows of a block, in the order of its runs, for which that is kept
struct __align__(16) Kept {
    int at, n, pair_at, pair_n; // where the sums of the row are, and of its pair (-1: none)
    float bias, pair_bias, residual;
    int row, act;               // of the output
    const float* residual_at;
    float *here, *there;        // the output in this step's set and in the other (0: it has no other)
};

struct Where { int at, slot; };         // a warp's instruction; which of what is kept is for its product

struct Stretch { int group, unit, n; }; // a warp's share of a run: its first group, that group's first unit, all its units

struct Shared {                 // fixed part of dynamic shared memory; rings and vectors follow
    Record records[RECORDS];    // of instruction i at i % RECORDS
    u64 arrived[RECORDS];       // barriers: the record is here
    u64 full[WARPS * RING_CHUNKS];      // barriers: the chunk is here
    Taken taken[WARPS];
    Kept kept[2][KEPT];         // of this product and of the next
    int count;                  // instructions of the launch
    Where where[WARPS];
    Sets sets;
    State* st;
    Best* scratch;
    int at;                     // the instruction that the block works on
    int chosen_at;              // the last instruction whose experts are known
    int chosen[MAX_CHOSEN];
    float weight[MAX_CHOSEN];
    __align__(16) float squares[WARPS * 32];    // sums of squares by lane, of an RMS norm
    __align__(16) float sums[3][16];    // by warp, the last 0
    float mean, deviation;      // of a layer norm
    float factor;               // that an RMS norm leaves to the end of the product
    int watched[MAX_CHOSEN];    // the choice of a CHOOSE
    struct { int unit, split, splits, head, heads, warps; } attending;    // what of attention's unit is needed behind its turns
    float best_value[WARPS];
    int best_index[WARPS];
    int last;
    State state;                // as it was when the launch began
};

#define PART_FLOATS ((BATCH_GROUPS + WARPS * MAX_RUNS) * 8)
#define PART_AT (RING_AT + WARPS * RING_BYTES)          // byte of shared memory where partial sums start
static_assert(sizeof(Instruction) % 16 == 0 && sizeof(Plan) % 16 == 0 && sizeof(Record) % 16 == 0, "the copy engine moves 16 bytes");
static_assert(sizeof(Plan) == PLAN_BYTES, "program.py disagrees");
static_assert(sizeof(Shared) <= SHARED_FIXED && PART_FLOATS == PART_FLOATS_HOST, "program.py disagrees");

// The block's own, known to the compiler as shared memory also where no register points at it.
DEV Shared& block() { return *(Shared*)smem; }
DEV const Record& record_at(int at) { return block().records[at % RECORDS]; }

// Where this thread's warp is.
DEV volatile Where& here() { return block().where[thread() >> 5]; }

// All threads that compute.
DEV void block_sync() { asm volatile("bar.sync 1, 480;" ::: "memory"); }

DEV int blocks_of(int k) { return (k + 255) / 256 * 8; }

// This block's share of n pieces; q and r are n / blocks and n % blocks.
DEV void share(int q, int r, int& from, int& to) {
    const int b = blockIdx.x;
    from = b * q + min(b, r);
    to = from + q + (b < r);
}
DEV void share(int n, int& from, int& to) { share(n / (int)gridDim.x, n % (int)gridDim.x, from, to); }

// n / d for d = 1 / inverse, both below 2^20.
DEV int quotient(int n, float inverse) { return (int)(((float)n + 0.5f) * inverse); }
