// The largest logit of a step, and the job's state moved on to the next.
#pragma once

DEV bool better(float v, int i, float w, int j) { return v > w || (v == w && i < j); }

// Into the warp's best row: at most this one, over the lanes.
DEV void merge_best(float value, int index) {
    Shared& s = block();
#pragma unroll
    for (int i = 16; i; i >>= 1) {
        float v = __shfl_xor_sync(FULL, value, i);
        int j = __shfl_xor_sync(FULL, index, i);
        if (better(v, j, value, index)) value = v, index = j;
    }
    const int w = thread() >> 5;
    if ((thread() & 31) == 0 && better(value, index, s.best_value[w], s.best_index[w])) s.best_value[w] = value, s.best_index[w] = index;
}

// The block's best row, then the best of all in the last block to finish.
CALL void pick_largest() {
    Shared& s = block();
    block_sync();
    if (thread() == 0) {
        float value = s.best_value[0];
        int index = s.best_index[0];
        for (int w = 1; w < WARPS; ++w)
            if (better(s.best_value[w], s.best_index[w], value, index)) value = s.best_value[w], index = s.best_index[w];
        __stcg(&s.scratch[blockIdx.x].value, value);
        __stcg(&s.scratch[blockIdx.x].index, index);
        __threadfence();
        s.last = atomicAdd(&s.st->ticket, 1u) == gridDim.x - 1;
    }
    block_sync();
    if (!s.last || thread() >= 32) return;
    __threadfence();
    float value = -__int_as_float(0x7f800000);
    int index = 0x7fffffff;
    for (int b = thread(); b < gridDim.x; b += 32) {
        float v = __ldcg(&s.scratch[b].value);
        int j = __ldcg(&s.scratch[b].index);
        if (better(v, j, value, index)) value = v, index = j;
    }
#pragma unroll
    for (int i = 16; i; i >>= 1) {
        float v = __shfl_xor_sync(FULL, value, i);
        int j = __shfl_xor_sync(FULL, index, i);
        if (better(v, j, value, index)) value = v, index = j;
    }
    if (thread() == 0) {
        s.st->ticket = 0;
        bool finite = value < __int_as_float(0x7f800000) && index < 0x7fffffff;
        advance(s.st, index < 0x7fffffff ? index : 0, finite);
    }
}
