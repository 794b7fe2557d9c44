// The largest logit of a step, and the job's state moved on to the next.
#pragma once

DEV bool better(float v, int i, float w, int j) { return v > w || (v == w && i < j); }

struct Best { float value; int index; };

// Each block's best row, then the best of all in the last block to finish.
CALL void pick_largest(State* st, Best best, Best* scratch, Shared& s) {
#pragma unroll
    for (int i = 16; i; i >>= 1) {
        float v = __shfl_xor_sync(FULL, best.value, i);
        int j = __shfl_xor_sync(FULL, best.index, i);
        if (better(v, j, best.value, best.index)) best.value = v, best.index = j;
    }
    if ((threadIdx.x & 31) == 0) s.best_value[threadIdx.x >> 5] = best.value, s.best_index[threadIdx.x >> 5] = best.index;
    block_sync();
    if (threadIdx.x == 0) {
        for (int w = 1; w < WARPS; ++w)
            if (better(s.best_value[w], s.best_index[w], best.value, best.index)) best.value = s.best_value[w], best.index = s.best_index[w];
        __stcg((float*)&scratch[blockIdx.x].value, best.value);
        __stcg(&scratch[blockIdx.x].index, best.index);
        __threadfence();
        s.last = atomicAdd(&st->ticket, 1u) == gridDim.x - 1;
    }
    block_sync();
    if (!s.last || threadIdx.x >= 32) return;
    __threadfence();
    best.value = -__int_as_float(0x7f800000), best.index = 0x7fffffff;
    for (int b = threadIdx.x; b < gridDim.x; b += 32) {
        float v = __ldcg(&scratch[b].value);
        int j = __ldcg(&scratch[b].index);
        if (better(v, j, best.value, best.index)) best.value = v, best.index = j;
    }
#pragma unroll
    for (int i = 16; i; i >>= 1) {
        float v = __shfl_xor_sync(FULL, best.value, i);
        int j = __shfl_xor_sync(FULL, best.index, i);
        if (better(v, j, best.value, best.index)) best.value = v, best.index = j;
    }
    if (threadIdx.x == 0) {
        st->ticket = 0;
        bool finite = best.value < __int_as_float(0x7f800000) && best.index < 0x7fffffff;
        advance(st, best.index < 0x7fffffff ? best.index : 0, finite);
    }
}
