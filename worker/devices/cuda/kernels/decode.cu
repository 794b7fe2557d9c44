// One decode step as one persistent launch: every multiprocessor runs the whole program, with a barrier of the whole
// grid after each instruction. Sums are taken in an order that only shapes and the grid's size decide.
//
// Compiled for one model: HEAD_DIM, GROUP (query heads a KV head), KV_F32 and TYPES are macros.
#include "common.cuh"
#include "program.cuh"
#include "units.cuh"
#include "activations.cuh"
#include "block.cuh"
#include "products.cuh"
#include "element.cuh"
#include "advance.cuh"
#include "pick.cuh"
#include "matvec.cuh"
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

DEV void do_embed(const Instruction& I, const State& st) {
    int from, to;
    share(I.k, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) {
        float v = element(I.parts[0].type, I.parts[0].base, st.token, k, I.k);
        if (I.n_parts > 1) v += element(I.parts[1].type, I.parts[1].base, st.position, k, I.k);
        I.out[k] = v;
    }
}

DEV void do_add(const Instruction& I) {
    int from, to;
    share(I.k, from, to);
    for (int k = from + threadIdx.x; k < to; k += THREADS) I.out[k] = shared_read(I.x + k) + shared_read(I.x2 + k);
}

DEV void do_rope(const Instruction& I, const State& st) {
    int from, to;
    share(I.k, from, to);
    const float* row = st.tables[I.table] + (u64)st.position * I.n_rot;
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
    if (blockIdx.x || threadIdx.x >= 32) return;
    choose_experts(I, s);
    if (threadIdx.x < I.n_chosen) I.chosen[threadIdx.x] = s.chosen[threadIdx.x], I.out[threadIdx.x] = s.weight[threadIdx.x];
}

#define PLAN_WORDS ((16 + MAX_PARTS * (int)sizeof(Run)) / 4)   // of a plan that does not wait for a router

// Every block's plan of every instruction, once a program: (instruction, block). One warp a block.
extern "C" __global__ void plan_program(const Instruction* program, int count, Plan* plans) {
    Plan& plan = ((Shared*)smem)->plans[0];
    for (int at = 0; at < count; ++at) {
        plan_ahead(program[at], plan, *(Shared*)smem);
        for (int i = threadIdx.x; i < PLAN_WORDS; i += 32) ((int*)&plans[at * gridDim.x + blockIdx.x])[i] = ((int*)&plan)[i];
        __syncwarp();
    }
}

// A copy to shared memory that arrives while its lane goes on.
DEV void copy_words(void* to, const void* from, int n, int lane) {
    for (int i = lane; i < n; i += 32)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"((u32)__cvta_generic_to_shared((int*)to + i)), "l"((const int*)from + i) : "memory");
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
decode(State* st, const Instruction* program, const Plan* plans, int first, int count, Best* scratch) {
    Shared& s = *(Shared*)smem;
    const int words = sizeof(Instruction) / 4;
    program += first;
    plans += first * gridDim.x + blockIdx.x;
    for (int i = threadIdx.x; i < sizeof(State) / 4; i += THREADS) ((int*)&s.state)[i] = ((const int*)st)[i];
    for (int j = 0; j < 3 && j < count; ++j)
        for (int i = threadIdx.x; i < words; i += THREADS) ((int*)&s.ring[j])[i] = ((const int*)(program + j))[i];
    for (int j = 0; j < 2 && j < count; ++j)
        for (int i = threadIdx.x; i < PLAN_WORDS; i += THREADS) ((int*)&s.plans[j])[i] = ((const int*)(plans + j * gridDim.x))[i];
    __syncthreads();
    u32 barriers = 0;
#pragma unroll 1
    for (int at = 0; at < count; ++at) {
        const Instruction& I = s.ring[at & 3];
        // The last warp looks ahead: what is three and two instructions ahead comes to slots that nobody reads now.
        if (threadIdx.x >= THREADS - 32) {
            const int lane = threadIdx.x & 31;
            asm volatile("cp.async.wait_all;" ::: "memory");
            __syncwarp();
            if (at + 3 < count) copy_words(&s.ring[(at + 3) & 3], program + at + 3, words, lane);
            if (at + 2 < count) {
                copy_words(&s.plans[(at + 2) & 3], plans + (at + 2) * gridDim.x, PLAN_WORDS, lane);
                prefetch(s.ring[(at + 2) & 3], s.plans[(at + 1) & 3]);
            }
        }
        if (I.op == COMBINE && span_of(I, s.state).splits == 1) {
            __syncthreads();
            continue;
        }
        switch (I.op) {
            case EMBED: do_embed(I, s.state); break;
            case ATTEND: do_attend(I, s.state, (float*)(smem + (sizeof(Shared) + 15) / 16 * 16)); break;
            case COMBINE: do_combine(I, s.state); break;
            case ADD: do_add(I); break;
            case ROPE: do_rope(I, s.state); break;
            case ACT: do_act(I); break;
            case CHOOSE: do_choose(I, s); break;
            default: do_product(I, s.plans[at & 3], st, s, scratch);
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
