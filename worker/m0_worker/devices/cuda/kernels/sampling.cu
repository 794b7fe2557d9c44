// The sampling chain of worker/sampling.py on the device: temperature, repetition penalty, top-k, top-p, min-p, pick.
// All in float64 and in token order, so that equal seeds give the tokens that the CPU device gives. Every thread owns
// neighbouring tokens; thresholds are found by digits of the keys' bits, with integer sums, which know no order.
#include "common.cuh"
#include "program.cuh"
#define THREADS 512
#define WARPS 16
#include "advance.cuh"

#define OWN 8                   // tokens of one thread at most
#define DIGITS 6                // of 11 bits, from the top of 64
#define BINS 2048

struct Scratch {
    u64 bins[2 * DIGITS][BINS];
    u64 block_u64[1024];
    double block_a[1024], block_b[1024];
};

struct Fast {                   // shared memory
    double d[WARPS];
    u64 u[WARPS];
    u64 scan[THREADS];
    u64 key, above;
};

DEV void grid_barrier(State* st, u32& target) {
    target += gridDim.x;
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 seen;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" :: "l"(&st->stage) : "memory");
        do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(&st->stage) : "memory");
        while (seen < target);
    }
    __syncthreads();
}

DEV u64 mix64(u64 z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// Bits of a double in an order that agrees with its value.
DEV u64 ordered(double v) {
    u64 b = (u64)__double_as_longlong(v);
    return b & 0x8000000000000000ull ? ~b : b | 0x8000000000000000ull;
}

DEV double block_sum(double v, Fast& f) {
#pragma unroll
    for (int i = 16; i; i >>= 1) v += __shfl_xor_sync(FULL, v, i);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) f.d[threadIdx.x >> 5] = v;
    __syncthreads();
    double s = 0.0;
    for (int w = 0; w < WARPS; ++w) s += f.d[w];
    return s;
}
DEV u64 block_max(u64 v, Fast& f) {
#pragma unroll
    for (int i = 16; i; i >>= 1) v = max(v, __shfl_xor_sync(FULL, v, i));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) f.u[threadIdx.x >> 5] = v;
    __syncthreads();
    u64 s = 0;
    for (int w = 0; w < WARPS; ++w) s = max(s, f.u[w]);
    return s;
}
// Sum over threads before this one.
DEV u64 block_before(u64 v, Fast& f) {
    __syncthreads();
    f.scan[threadIdx.x] = v;
    __syncthreads();
    for (int d = 1; d < THREADS; d <<= 1) {
        u64 add = threadIdx.x >= d ? f.scan[threadIdx.x - d] : 0;
        __syncthreads();
        f.scan[threadIdx.x] += add;
        __syncthreads();
    }
    return f.scan[threadIdx.x] - v;
}

// The largest key whose keys at or above it weigh at least `target`, and what the keys strictly above weigh.
// If all weigh less, the smallest key there is.
CALL void select(State* st, const u64* key, const u64* weight, u32 kept, int own, u64 target, u64 (*bins)[BINS], u32& barrier, Fast& f) {
    u64 prefix = 0, above = 0;
    for (int digit = 0; digit < DIGITS; ++digit) {
        const int shift = digit < 5 ? 53 - 11 * digit : 0, bits = digit < 5 ? 11 : 9;
        for (int i = 0; i < own; ++i)
            if (kept >> i & 1 && (digit == 0 || key[i] >> (shift + bits) == prefix))
                atomicAdd(&bins[digit][key[i] >> shift & ((1 << bits) - 1)], weight[i]);
        grid_barrier(st, barrier);
        // Thread t holds bins BINS - 1 - 4 t downwards: its sum, and the sums of all higher bins.
        u64 mine[4], sum = 0;
        for (int j = 0; j < 4; ++j) sum += mine[j] = __ldcg(&bins[digit][BINS - 1 - (threadIdx.x * 4 + j)]);
        u64 before = above + block_before(sum, f);
        if (threadIdx.x == 0) f.key = ~0ull;
        __syncthreads();
        for (int j = 0; j < 4; ++j) {
            if (before < target && before + mine[j] >= target) {
                f.key = (prefix << bits) | (BINS - 1 - (threadIdx.x * 4 + j));
                f.above = before;
            }
            before += mine[j];
        }
        __syncthreads();
        if (f.key == ~0ull) {           // not reached: everything stays
            __syncthreads();
            if (threadIdx.x == 0) f.key = 0, f.above = 0;
            __syncthreads();
            for (++digit; digit < DIGITS; ++digit) grid_barrier(st, barrier);
            return;
        }
        prefix = f.key;
        above = f.above;
        __syncthreads();
    }
}

// How many of the kept keys equal to f.key come before this thread's, in token order.
DEV u64 equals_before(State* st, const u64* key, u32 kept, int own, Scratch* sc, u32& barrier, Fast& f) {
    u64 n = 0;
    for (int i = 0; i < own; ++i) n += (kept >> i & 1) && key[i] == f.key;
    u64 before = block_before(n, f);
    if (threadIdx.x == THREADS - 1) __stcg(&sc->block_u64[blockIdx.x], before + n);
    grid_barrier(st, barrier);
    for (int b = 0; b < blockIdx.x; ++b) before += __ldcg(&sc->block_u64[b]);
    grid_barrier(st, barrier);
    return before;
}

DEV double sum_of_blocks(State* st, double mine, double* place, u32& barrier, Fast& f) {
    double s = block_sum(mine, f);
    if (threadIdx.x == 0) __stcg(&place[blockIdx.x], s);
    grid_barrier(st, barrier);
    double all = 0.0;
    for (int b = 0; b < gridDim.x; ++b) all += __ldcg(&place[b]);
    return all;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) sample(State* st, const float* logits, Scratch* sc) {
    __shared__ Fast f;
    u32 barrier = 0;
    const int n = min(st->vocab, st->n_logits), threads = gridDim.x * THREADS, me = blockIdx.x * THREADS + threadIdx.x;
    const int own = (n + threads - 1) / threads, first = me * own, drawn = st->drawn;   // advance() changes it
    for (int i = me; i < 2 * DIGITS * BINS; i += threads) ((u64*)sc->bins)[i] = 0;
    const bool greedy = st->temperature == 0.0 || st->top_k == 1 || st->top_p == 0.0;

    double score[OWN];
    u64 key[OWN], weight[OWN];
    u32 kept = 0;
    u64 top = 0;
    bool bad = false;
    for (int i = 0; i < own; ++i) {
        score[i] = 0.0;
        key[i] = weight[i] = 0;
        if (first + i >= n) continue;
        double v = logits[first + i];
        bad |= !(v < __longlong_as_double(0x7ff0000000000000ll));
        if (!greedy && st->temperature != 1.0) v /= fmax(st->temperature, 1e-30);
        if (st->penalty != 1.0 && st->seen[first + i]) {
            double p = fmax(st->penalty, 1e-6);
            v = v > 0.0 ? v / p : v * p;
        }
        score[i] = v;
        key[i] = ordered(v);
        weight[i] = 1;
        kept |= 1u << i;
        top = max(top, key[i]);
    }
    // A thread with a non-finite logit says so through the largest key of all.
    top = block_max(bad ? ~0ull : top, f);
    if (threadIdx.x == 0) __stcg(&sc->block_u64[blockIdx.x], top);
    grid_barrier(st, barrier);
    top = 0;
    for (int b = 0; b < gridDim.x; ++b) top = max(top, __ldcg(&sc->block_u64[b]));
    const bool finite = top != ~0ull;
    const double largest = __longlong_as_double((long long)(top & 0x8000000000000000ull ? top & 0x7fffffffffffffffull : ~top));
    grid_barrier(st, barrier);
    if (threadIdx.x == 0) f.key = top, f.above = 0;
    __syncthreads();

    u64 token = ~0ull;
    if (!finite) {
        token = 0;
    } else if (greedy) {
        u64 before = equals_before(st, key, kept, own, sc, barrier, f);
        if (before == 0)
            for (int i = own - 1; i >= 0; --i) if (kept >> i & 1 && key[i] == f.key) token = first + i;
    } else {
        if (st->top_k > 0 && st->top_k < n) {
            select(st, key, weight, kept, own, (u64)st->top_k, sc->bins, barrier, f);
            u64 left = (u64)st->top_k - f.above, before = equals_before(st, key, kept, own, sc, barrier, f);
            for (int i = 0; i < own; ++i) {
                if (!(kept >> i & 1) || key[i] > f.key) continue;
                if (key[i] < f.key || before++ >= left) kept &= ~(1u << i);
            }
        }
        double sum = 0.0;
        for (int i = 0; i < own; ++i) {
            score[i] = kept >> i & 1 ? exp(score[i] - largest) : 0.0;
            sum += score[i];
        }
        const double all = sum_of_blocks(st, sum, sc->block_a, barrier, f);
        for (int i = 0; i < own; ++i) score[i] /= all;
        if (st->top_p < 1.0) {
            const double one = 4611686018427387904.0;   // 2^62
            for (int i = 0; i < own; ++i) key[i] = ordered(score[i]), weight[i] = (u64)(score[i] * one);
            u64 target = (u64)(st->top_p * one);
            select(st, key, weight, kept, own, max(target, 1ull), sc->bins + DIGITS, barrier, f);
            double p = __longlong_as_double((long long)(f.key & 0x7fffffffffffffffull));
            u64 w = max((u64)(p * one), 1ull), left = f.key ? (max(target, 1ull) - f.above + w - 1) / w : ~0ull;
            u64 before = equals_before(st, key, kept, own, sc, barrier, f);
            for (int i = 0; i < own; ++i) {
                if (!(kept >> i & 1) || key[i] > f.key) continue;
                if (key[i] < f.key || before++ >= left) kept &= ~(1u << i);
            }
        }
        const double least = st->min_p > 0.0 ? st->min_p * (1.0 / all) : 0.0;
        sum = 0.0;
        for (int i = 0; i < own; ++i) {
            if (!(kept >> i & 1) || score[i] < least) score[i] = 0.0;
            sum += score[i];
        }
        // Where u falls: the block, then the thread, then the token whose cumulative sum first exceeds it.
        const double block_total = block_sum(sum, f);
        if (threadIdx.x == 0) __stcg(&sc->block_b[blockIdx.x], block_total);
        grid_barrier(st, barrier);
        double total = 0.0, before = 0.0;
        int last = 0;
        for (int b = 0; b < gridDim.x; ++b) {
            double s = __ldcg(&sc->block_b[b]);
            if (b < blockIdx.x) before += s;
            total += s;
            if (s > 0.0) last = b;
        }
        const double u = (double)(mix64(st->stream + (u64)drawn * 0x9E3779B97F4A7C15ull) >> 11) * 1.1102230246251565e-16;
        const double want = u * total;
        if (want < before + block_total || blockIdx.x == last) {
            bool mine = want >= before;                 // and no earlier block has it
            if (mine) {
                __syncthreads();
                __shared__ double sums[THREADS];
                sums[threadIdx.x] = sum;
                __syncthreads();
                double c = before;
                int t_last = 0, t_found = -1;
                double c_found = before;
                for (int t = 0; t < THREADS; ++t) {
                    if (sums[t] > 0.0) t_last = t;
                    if (t_found < 0 && sums[t] > 0.0 && want < c + sums[t]) t_found = t, c_found = c;
                    c += sums[t];
                }
                if (t_found < 0) { t_found = t_last; c_found = want; }
                if (threadIdx.x == t_found) {
                    double at = c_found;
                    for (int i = 0; i < own; ++i) {
                        if (score[i] <= 0.0) continue;
                        token = first + i;
                        at += score[i];
                        if (want < at) break;
                    }
                }
            }
        }
    }
    if (!finite && me != 0) token = ~0ull;
    if (token != ~0ull) advance(st, (int)token, finite);
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        if (atomicAdd(&st->ticket, 1u) == gridDim.x - 1) {
            st->stage = 0;
            st->ticket = 0;
            __threadfence();
        }
    }
}
