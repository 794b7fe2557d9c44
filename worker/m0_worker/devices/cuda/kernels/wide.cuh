// The same products on Hopper: a warpgroup multiplies 64 rows, dequantized in its registers, with all tokens of the block,
// which the tensor cores read from shared memory (wgmma). Weights are dequantized once for 64 or 128 tokens.
//
// Activations lie in groups of 16: the even weights of each four (0, 2), then the odd ones (1, 3), which is where the
// fragments of the weights have them.
#pragma once

#define WIDE_THREADS 256        // two warpgroups
#define WIDE_PITCH 132           // floats of a token's sums in shared memory: 128 and a shift of four banks
#define WIDE_STAGES 4           // chunks of 128 activations: one read, one still being read, two on their way

DEV void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING> DEV void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory"); }

// c += rows (64, 16) of the warpgroup times activations (16, BN), `x` the descriptor of their tile.
DEV void wgmma(float (&c)[8][4], const u32 (&w)[4], u64 x) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
        :
          "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
          "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]),
          "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
          "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3])
        : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(x));
}
DEV void wgmma(float (&c)[16][4], const u32 (&w)[4], u64 x) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
        :
          "+f"(c[0][0]), "+f"(c[0][1]), "+f"(c[0][2]), "+f"(c[0][3]), "+f"(c[1][0]), "+f"(c[1][1]), "+f"(c[1][2]), "+f"(c[1][3]),
          "+f"(c[2][0]), "+f"(c[2][1]), "+f"(c[2][2]), "+f"(c[2][3]), "+f"(c[3][0]), "+f"(c[3][1]), "+f"(c[3][2]), "+f"(c[3][3]),
          "+f"(c[4][0]), "+f"(c[4][1]), "+f"(c[4][2]), "+f"(c[4][3]), "+f"(c[5][0]), "+f"(c[5][1]), "+f"(c[5][2]), "+f"(c[5][3]),
          "+f"(c[6][0]), "+f"(c[6][1]), "+f"(c[6][2]), "+f"(c[6][3]), "+f"(c[7][0]), "+f"(c[7][1]), "+f"(c[7][2]), "+f"(c[7][3]),
          "+f"(c[8][0]), "+f"(c[8][1]), "+f"(c[8][2]), "+f"(c[8][3]), "+f"(c[9][0]), "+f"(c[9][1]), "+f"(c[9][2]), "+f"(c[9][3]),
          "+f"(c[10][0]), "+f"(c[10][1]), "+f"(c[10][2]), "+f"(c[10][3]), "+f"(c[11][0]), "+f"(c[11][1]), "+f"(c[11][2]), "+f"(c[11][3]),
          "+f"(c[12][0]), "+f"(c[12][1]), "+f"(c[12][2]), "+f"(c[12][3]), "+f"(c[13][0]), "+f"(c[13][1]), "+f"(c[13][2]), "+f"(c[13][3]),
          "+f"(c[14][0]), "+f"(c[14][1]), "+f"(c[14][2]), "+f"(c[14][3]), "+f"(c[15][0]), "+f"(c[15][1]), "+f"(c[15][2]), "+f"(c[15][3])
        : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(x));
}

// Tokens of 64 activations, 128 bytes each, eight tokens an atom of 1,024 bytes, swizzled in units of 16 bytes.
DEV u64 descriptor(const void* tile) {
    return (u64)(((u32)__cvta_generic_to_shared(tile) & 0x3ffff) >> 4) | 1ull << 16 | (u64)(1024 >> 4) << 32 | 1ull << 62;
}

template <int BN> struct WideShared {
    u16 tiles[WIDE_STAGES][2][BN * 64];     // a chunk: two tiles of 64 activations; 1,024-byte aligned
    float scales[BN];
    int index[BN], out_row[BN];
};

// A block: 128 rows (64 of gate and 64 of up, if paired) by BN tokens; a warp: one octet of rows g and one of g + 8.
template <int TYPE, int BN>
DEV void gemm_wide(const GemmArgs& A) {
    extern __shared__ __align__(1024) u8 dynamic[];
    WideShared<BN>& shared = *(WideShared<BN>*)(dynamic + (-(u32)__cvta_generic_to_shared(dynamic) & 1023));
    const int lane = threadIdx.x & 31, w = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const bool paired = A.base2 != 0;
    const int expert = blockIdx.z, n = A.counts ? A.counts[expert] : A.n, first = blockIdx.y * BN;
    if (first >= n) return;
    const int offset = A.counts ? A.counts[gridDim.z + expert] : 0;
    for (int i = threadIdx.x; i < BN; i += WIDE_THREADS) {
        const int j = min(first + i, n - 1), pair = A.counts ? A.list[offset + j] : j, from = A.gathers ? pair / A.per_token : pair;
        shared.index[i] = from;
        shared.scales[i] = A.x_scale[from] * (1.f / WEIGHT_SCALE);
        shared.out_row[i] = pair;
    }
    __syncthreads();
    const u64 octet = octet_bytes(TYPE, A.k);
    const int chunks = (A.k + 127) / 128;
    const u8* p[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int o = paired ? blockIdx.x * 8 + w : blockIdx.x * 16 + w * 2 + i, at = min(o, (paired ? A.n_ff / 8 : A.octets) - 1);
        const u8* base = paired && i ? A.base2 + expert * A.expert_bytes2 : A.base + expert * A.expert_bytes;
        if (TYPE == F16 || TYPE == BF16) p[i] = base + ((u64)min(at * 8 + g, A.rows - 1) * A.k + 4 * t) * 2;
        else p[i] = base + at * octet;
    }
    // Each thread copies the same sixteenth of every 16th token's chunk.
    const int part = threadIdx.x & 15, token0 = threadIdx.x >> 4;
    const u16* x[BN / 16];
#pragma unroll
    for (int i = 0; i < BN / 16; ++i) x[i] = A.x + (u64)shared.index[token0 + 16 * i] * A.pitch + part * 8;
    auto fetch = [&](int chunk) {
        u16* to = shared.tiles[chunk % WIDE_STAGES][part >> 3] + token0 * 64 + ((part ^ token0) & 7) * 8;
        if (chunk < chunks)
#pragma unroll
            for (int i = 0; i < BN / 16; ++i) copy16(to + i * 16 * 64, x[i] + chunk * 128);
        asm volatile("cp.async.commit_group;" ::: "memory");
    };
    auto load = [&](Tile<TYPE> (&tile)[2], int chunk) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if constexpr (TYPE == F16 || TYPE == BF16) tile[i].load_row(p[i] + chunk * 256, A.k - chunk * 128 - 4 * t);
            else if constexpr (Unit<TYPE>::K == 256) tile[i].load(p[i] + (chunk >> 1) * unit_bytes(TYPE), chunk & 1, lane, g);
            else tile[i].load(p[i] + chunk * unit_bytes(TYPE), 0, lane, g);
        }
    };
    float acc[BN / 8][4];
#pragma unroll
    for (int j = 0; j < BN / 8; ++j) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.f;
    Tile<TYPE> tile[2], next[2];
    u32 rows[2][2][4];          // fragments: of the block of 32 weights being multiplied, and of the one after it
    fetch(0), fetch(1);
    load(tile, 0);
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; ++chunk) {
        if (chunk + 1 < chunks) load(next, chunk + 1);
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        fetch(chunk + 2);       // over the chunk before the last, whose products are done in both warpgroups
        const u64 at = descriptor(shared.tiles[chunk % WIDE_STAGES][0]);
        auto multiply = [&](auto block) {
            constexpr int B = decltype(block)::value;
            u32 (&row)[2][4] = rows[B & 1];
            Four lo[2], hi[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) tile[i].template block<B>(lo[i], hi[i]);
            row[0][0] = lo[0].a, row[0][1] = lo[1].a, row[0][2] = lo[0].b, row[0][3] = lo[1].b;
            row[1][0] = hi[0].a, row[1][1] = hi[1].a, row[1][2] = hi[0].b, row[1][3] = hi[1].b;
            const u64 x = at + (B >> 1) * (BN * 128 >> 4) + (B & 1) * 4;
            wgmma_begin();
            wgmma(acc, row[0], x);
            wgmma(acc, row[1], x + 2);
            wgmma_commit();
            wgmma_wait<1>();    // the block before is done: its fragments may be overwritten
        };
        struct B0 { enum { value = 0 }; }; struct B1 { enum { value = 1 }; }; struct B2 { enum { value = 2 }; }; struct B3 { enum { value = 3 }; };
        multiply(B0()); multiply(B1()); multiply(B2()); multiply(B3());
        if (chunk + 1 < chunks)
#pragma unroll
            for (int i = 0; i < 2; ++i) tile[i] = next[i];
    }
    wgmma_wait<0>();
    // Sums go through shared memory, so that each thread finishes one row, and neighbours write neighbouring rows.
    float* sums = (float*)shared.tiles;         // (BN, WIDE_PITCH): row 16 w + 8 h + g is row g of octet h of warp w
    __syncthreads();
#pragma unroll
    for (int j = 0; j < BN / 8; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            float* to = sums + (j * 8 + 2 * t + e) * WIDE_PITCH + w * 16 + g;
            to[0] = acc[j][e], to[8] = acc[j][2 + e];
        }
    __syncthreads();
    const float* bias = A.bias ? A.bias + (u64)expert * A.bias_stride : 0;
    const int height = paired ? 64 : 128, local = threadIdx.x & (height - 1), r = blockIdx.x * height + local;
    if (r >= (paired ? A.n_ff : A.rows)) return;
    const float* sum = sums + (paired ? (local & ~7) * 2 + (local & 7) : local);
    const float b0 = bias ? bias[paired ? r : A.row0 + r] : 0.f, b1 = paired && bias ? bias[A.n_ff + r] : 0.f;
    const int tokens = min(BN, n - first);
#pragma unroll 8
    for (int token = threadIdx.x / height; token < tokens; token += WIDE_THREADS / height) {
        const u64 at = (u64)shared.out_row[token] * A.ldo + A.row0 + r;
        const float s = shared.scales[token];
        float v = fmaf(sum[token * WIDE_PITCH], s, b0);
        if (paired) {
            const float up = fmaf(sum[token * WIDE_PITCH + 8], s, b1);
            v = A.act == SWIGLU ? swiglu(v, up) : swiglu_oai(v, up);
        } else if (A.act == GELU) v = gelu(v);
        if (A.residual) v += A.residual[at];
        A.out[at] = v;
    }
}
