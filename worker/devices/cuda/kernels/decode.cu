// One decode step as one persistent launch: every multiprocessor runs the whole program, with a barrier of the whole
// grid after each instruction. Sums are taken in an order that only shapes and the grid's size decide.
//
// Compiled for one model: HEAD_DIM, GROUP (query heads a KV head), KV_F32 and TYPES are macros.
#include "common.cuh"
#include "program.cuh"
#include "units.cuh"
#include "block.cuh"
#include "products.cuh"
#include "element.cuh"
#include "advance.cuh"
#include "pick.cuh"
#include "matvec.cuh"
#include "experts.cuh"
#include "attention.cuh"

// All blocks have finished the instruction and see each other's results. The launch is cooperative, so all are running.
DEV void grid_barrier(State* st, u32 target) {
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 seen;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" :: "l"(&st->barrier) : "memory");
        do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(&st->barrier) : "memory");
        while (seen < target);
    }
    __syncthreads();
}

DEV void do_embed(const Instruction& I, const State* st) {
    int from, to;
    share(I.k, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        float v = element(I.parts[0].type, I.parts[0].base, st->token, k, I.k);
        if (I.n_parts > 1) v += element(I.parts[1].type, I.parts[1].base, st->position, k, I.k);
        I.out[k] = v;
    }
}

DEV void do_add(const Instruction& I) {
    int from, to;
    share(I.k, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) I.out[k] = shared_read(I.x + k) + shared_read(I.x2 + k);
}

// Norm by itself, for whoever watches it: every block computes it, each writes its share.
CALL void do_norm(const Instruction& I, const Memory& m, Shared& s) {
    prepare(I, I.x, m, m.planes, s);
    int from, to;
    share(I.k, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) I.out[k] = m.floats[k];
    __syncthreads();
}

DEV void do_rope(const Instruction& I, const State* st) {
    int from, to;
    share(I.k, from, to);
    const float* row = st->tables[I.table] + (u64)st->position * I.n_rot;
    for (int k = from + threadIdx.x; k < to; k += THREADS)
        I.out[k] = rotated(I.x + k / HEAD_DIM * HEAD_DIM, k % HEAD_DIM, row, I.n_rot, I.pairing);
}

DEV void do_act(const Instruction& I) {
    int from, to;
    share(I.n_out, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        float v = shared_read(I.x + k);
        if (I.act == GELU) I.out[k] = gelu(v);
        else I.out[k] = I.act == SWIGLU ? swiglu(v, shared_read(I.x + I.n_out + k)) : swiglu_oai(v, shared_read(I.x + I.n_out + k));
    }
}

DEV void do_choose(const Instruction& I, Shared& s) {
    if (blockIdx.x) return;
    choose_experts(I, s);
    if (threadIdx.x < I.n_chosen) I.chosen[threadIdx.x] = s.chosen[threadIdx.x], I.out[threadIdx.x] = s.weight[threadIdx.x];
    __syncthreads();
}

// Bring this block's share of a later instruction's weights from memory to L2 while this one waits and computes.
CALL void prefetch_weights(const Instruction& I) {
    int from, to, octet0 = 0;
    share(I.tiles, from, to);
    if (I.act == SWIGLU || I.act == SWIGLU_OAI) {
        const bool one = I.n_parts == 1;
        const int half = I.parts[0].octets / (one ? 2 : 1);
        u64 bytes = min((u64)(to - from) * octet_bytes(I.parts[0].type, I.k), PREFETCH_LIMIT / 2);
        prefetch_bytes(run_of(I.parts[0], I.k, from, to, 0).base, bytes);
        prefetch_bytes(run_of(I.parts[one ? 0 : 1], I.k, from + (one ? half : 0), to, 0).base, bytes);
        return;
    }
    for (int p = 0; p < I.n_parts; ++p) {
        int a = max(from - octet0, 0), b = min(to - octet0, I.parts[p].octets);
        octet0 += I.parts[p].octets;
        if (a >= b) continue;
        Run r = run_of(I.parts[p], I.k, a, b, 0);
        u64 bytes = (u64)(b - a) * octet_bytes(r.type, I.k);
        if (r.type == F32 || r.type == F16 || r.type == BF16) bytes = (u64)r.rows * (octet_bytes(r.type, I.k) / 8) & ~15ull;
        prefetch_bytes(r.base, min(bytes, PREFETCH_LIMIT));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
decode(State* st, const Instruction* program, int first, int count, Best* scratch) {
    Shared& s = *(Shared*)smem;
    Memory m;
    m.part = (float*)(smem + (sizeof(Shared) + 15) / 16 * 16);
    m.xsum = m.part + PART_FLOATS;
    const int words = sizeof(Instruction) / 4;
    for (int j = 0; j < 3 && j < count; ++j)
        for (int i = threadIdx.x; i < words; i += THREADS) ((int*)&s.ring[j])[i] = ((const int*)(program + first + j))[i];
    __syncthreads();
    u32 barriers = 0;
    for (int at = 0; at < count; ++at) {
        // The slot of the instruction before the last barrier is free: the one three ahead goes there.
        if (at + 3 < count && threadIdx.x >= THREADS - 128)
            for (int i = threadIdx.x - (THREADS - 128); i < words; i += 128)
                ((int*)&s.ring[(at + 3) & 3])[i] = ((const int*)(program + first + at + 3))[i];
        const Instruction& I = s.ring[at & 3];
        if (I.op == COMBINE && span_of(I, st).splits == 1) {
            if (I.prefetch) prefetch_weights(s.ring[(at + I.prefetch) & 3]);
            __syncthreads();
            continue;
        }
        if (I.prefetch && at + I.prefetch < count) prefetch_weights(s.ring[(at + I.prefetch) & 3]);
        const int sums = blocks_of(I.k) * (I.op == EXPERTS_DOWN ? I.n_chosen : 1);
        m.planes = (u32*)(m.xsum + sums);
        m.floats = (float*)(m.planes + (I.flags & 4 ? blocks_of(I.k) * BLOCK_WORDS : 0));
        switch (I.op) {
            case EMBED: do_embed(I, st); break;
            case MATVEC: do_matvec(I, st, m, s, scratch); break;
            case ATTEND: do_attend(I, st, m.part, s); break;
            case COMBINE: do_combine(I, st); break;
            case EXPERTS_UP: do_experts_up(I, s.ring[(at + 1) & 3], m, s); break;
            case EXPERTS_DOWN: do_experts_down(I, m, s); break;
            case ADD: do_add(I); break;
            case NORM: do_norm(I, m, s); break;
            case ROPE: do_rope(I, st); break;
            case ACT: do_act(I); break;
            case CHOOSE: do_choose(I, s); break;
        }
        if (at + 1 < count) grid_barrier(st, ++barriers * gridDim.x);
    }
    // The last block to leave resets the barrier for the next launch: nobody waits on it any more.
    if (threadIdx.x == 0 && atomicAdd(&st->done, 1u) == gridDim.x - 1) {
        st->barrier = 0;
        st->done = 0;
        __threadfence();
    }
}
