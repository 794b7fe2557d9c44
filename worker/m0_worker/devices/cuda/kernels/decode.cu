// One decode step as one persistent launch: every multiprocessor runs the whole program. Blocks wait for each other's
// values, never for each other (exchange.cuh), and weights arrive ahead of them (ring.cuh). Sums are taken in an order
// that only shapes and the grid's size decide.
//
// Compiled for one model: HEAD_DIM, GROUP (query heads a KV head), KV_F32, TYPES, OPS and RING_BYTES are macros.
#include "common.cuh"
#include "program.cuh"
#include "units.cuh"
#include "activations.cuh"
#include "exchange.cuh"
#include "ring.cuh"
#include "block.cuh"
#include "vectors.cuh"
#include "element.cuh"
#include "advance.cuh"
#include "pick.cuh"
#include "attention.cuh"
#include "splits.cuh"
#include "products.cuh"
#include "matvec.cuh"
#include "lookahead.cuh"

CALL void do_embed(const Instruction& I, const State& st) {
    int from, to;
    share(I.k, from, to);
#pragma unroll 1
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        float v = element(I.parts[0].type, I.parts[0].base, st.token, k, I.k);
        if (I.n_parts > 1) v += element(I.parts[1].type, I.parts[1].base, st.position, k, I.k);
        publish(I.out + k, block().sets, v);
    }
}

// Instructions that only appear where somebody watches between those that are fused.

DEV void do_add(const Instruction& I, Sets sets) {
    int from, to;
    share(I.k, from, to);
#pragma unroll 1
    for (int k = from + threadIdx.x; k < to; k += THREADS) publish(I.out + k, sets, await(I.x + sets.here + k) + await(I.x2 + sets.here + k));
}

DEV void do_rope(const Instruction& I, const State& st, Sets sets) {
    constexpr int PAIRS = HEAD_DIM / 2;         // of a head
    int from, to;
    share(I.k / 2, from, to);
    const float* row = st.tables[I.table] + (u64)st.position * I.n_rot;
#pragma unroll 1
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        const int head = k / PAIRS * HEAD_DIM;
        const Pair p(I.x + sets.here + head, k % PAIRS, row, I.n_rot, I.pairing);
        publish(I.out + head + p.a, sets, p.first), publish(I.out + head + p.b, sets, p.second);
    }
}

DEV void do_act(const Instruction& I, Sets sets) {
    int from, to;
    share(I.n_out, from, to);
    const float* x = I.x + sets.here;
#pragma unroll 1
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        float v = await(x + k);
        if (I.act == GELU) v = gelu(v);
        else v = I.act == SWIGLU ? swiglu(v, await(x + I.n_out + k)) : swiglu_oai(v, await(x + I.n_out + k));
        publish(I.out + k, sets, v);
    }
}

// The router's choice; the experts' instructions make it anew.
DEV void do_choose(const Instruction& I, Sets sets) {
    if (blockIdx.x || threadIdx.x >= 32) return;
    int* ids = block().watched;
    float* weights = block().sums[0];
    const int lane = threadIdx.x;
    float logits[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) logits[j] = lane + 32 * j < I.n_experts ? await(I.x2 + sets.here + lane + 32 * j) : 0.f;
    choose_experts(logits, I.n_experts, I.n_chosen, ids, weights);
    if (lane < I.n_chosen) {
        publish((float*)I.chosen + lane, sets, __int_as_float(ids[lane]));
        publish(I.out + lane, sets, weights[lane]);
    }
}

CALL void do_watched(const Instruction& I, const State& st) {
    const Sets sets = block().sets;
    switch (I.op) {
        case ADD: do_add(I, sets); break;
        case ROPE: do_rope(I, st, sets); break;
        case ACT: do_act(I, sets); break;
        case CHOOSE: do_choose(I, sets); break;
    }
}

// before: what the block has to do in the instruction before it, or nothing.
DEV int traits_of(const Instruction& I, const Plan& plan, const Plan* before) {
    const bool picks = I.flags & (PICK | FIRST_PICK), down = is_down(I), more = !down && (picks || plan.rows > KEPT);
    int traits = (is_product(I) && plan.n) || I.op == NORM ? PRODUCT : 0;
    if (is_product(I) && plan.n && before && before->n && !(I.flags & (JOINED | PICK))) traits |= APART;
    if (plan.n && down) traits |= DOWN;
    if (more) traits |= MORE;
    if (is_product(I) && plan.n && !down && !more && I.norm != LAYER && !(I.flags & JOINED)) traits |= PLAIN;
    return traits;
}

// Every block's plan of every instruction, once a program: (instruction, block). One warp a block.
extern "C" __global__ void plan_program(const Instruction* program, int count, Plan* plans) {
    for (int at = 0; at < count; ++at) {
        Plan& plan = plans[at * gridDim.x + blockIdx.x];
        if (is_product(program[at])) plan_share(program[at], plan);
        else if (threadIdx.x == 0) plan.n = plan.rows = 0;
        __syncwarp();
        if (threadIdx.x == 0) plan.traits = traits_of(program[at], plan, at ? &plans[(at - 1) * gridDim.x + blockIdx.x] : 0);
    }
}

DEV int traits_here() { return record_at(here().at).plan.traits; }

extern "C" __global__ void __launch_bounds__(ALL_THREADS, 1)
decode(State* st, const Instruction* program, const Plan* plans, int first, int count, Best* scratch, u32 set) {
    Shared& s = *(Shared*)smem;
    const int tid = threadIdx.x;
    for (int i = tid; i < sizeof(State) / 4; i += ALL_THREADS) ((int*)&s.state)[i] = ((const int*)st)[i];
    for (int i = tid; i < RECORDS; i += ALL_THREADS) barrier_init(s.arrived + i);
    for (int i = tid; i < WARPS * RING_CHUNKS; i += ALL_THREADS) barrier_init(s.full + i);
    if (tid < WARPS) {
        s.taken[tid].bytes = s.taken[tid].chunks = 0;
        s.where[tid].at = s.where[tid].slot = 0;
        s.best_value[tid] = -__int_as_float(0x7f800000), s.best_index[tid] = 0x7fffffff;
    }
    if (tid == 0) {
        const bool odd = st->position & 1;
        s.at = 0, s.chosen_at = -1;
        s.count = count;
        for (int i = 0; i < 3; ++i) s.sums[i][15] = 0.f;
        s.st = st, s.scratch = scratch;
        s.sets.to = odd ? set : 0, s.sets.there = odd ? 0 : set, s.sets.stride = 2 * set;
        s.sets.here = s.sets.to + blockIdx.x % COPIES * s.sets.stride;
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    if (tid >= THREADS) {
        look_ahead(program + first, plans + first * gridDim.x, count);
        return;
    }
    // Where a warp is lies in shared memory: nothing is in registers over the calls, which need them all.
#pragma unroll 1
    for (;;) {
        const int at = here().at;
        if (at >= block().count) break;
        barrier_wait(block().arrived + at % RECORDS, at / RECORDS);
        const int traits = record_at(at).plan.traits;
        if (!(traits & APART)) block_sync();
        if (thread() == 0) *(volatile int*)&block().at = at;
        STAMP(0);
        if (!(traits & PLAIN)) switch (record_at(at).instruction.op) {
            case MATVEC: case EXPERTS_UP: case EXPERTS_DOWN: case NORM:
                if (record_at(at).instruction.flags & JOINED) prepare_joined(at);
                if (DOES(LAYER_NORM) && record_at(here().at).instruction.norm == LAYER && (traits_here() & PRODUCT)) layer_norm(here().at);
                break;
            case EMBED: do_embed(record_at(at).instruction, block().state); break;
            case ATTEND: do_attend(at); break;
            case COMBINE: if (DOES(COMBINE)) do_combine(at); break;
            default: if (DOES(ADD) || DOES(ROPE) || DOES(ACT) || DOES(CHOOSE)) do_watched(record_at(at).instruction, block().state);
        }
        if (traits_here() & PRODUCT) do_product(here().at);
        if (!(traits_here() & PLAIN)) {
            if (DOES(EXPERTS_DOWN) && (traits_here() & DOWN)) finish_down(here().at);
            else if (traits_here() & MORE) finish_more(here().at);
            if ((record_at(here().at).instruction.flags & PICK) && block().state.greedy) pick_largest();
        }
        STAMP(5);
        __syncwarp();
        if ((thread() & 31) == 0) here().at = here().at + 1;
        __syncwarp();
    }
}
