// Weights on their way: a ring of shared memory for each warp, filled by the copy engine far ahead of the products.
//
// What a warp reads of the weights, and in which order, is known before the step begins (only experts wait for their
// router). It is cut into chunks: whole units of one run, CHUNK_BYTES at most. The look-ahead warp (lookahead.cuh) has
// the copy engine bring chunk after chunk into the warp's ring, as long as there is room, across runs and instructions:
// while blocks wait for each other, prepare vectors or attend, memory goes on bringing weights.
//
// Both sides lay chunks out by the same rule: one behind the other, never across the ring's end, and each counted as
// SMALLEST bytes at least, so that a ring never holds more than RING_CHUNKS of them. Chunk c arrives at the warp's
// barrier c % RING_CHUNKS, in that barrier's phase c / RING_CHUNKS. The warp publishes in `taken` how far it has read;
// the look-ahead warp reads that before it fills the place again.
#pragma once

extern __shared__ __align__(128) u8 smem[];

#ifndef RING_BYTES
#define RING_BYTES 9216         // of a warp; the host takes what shared memory has left
#endif
#define RING_CHUNKS 16
#define CHUNK_BYTES 2304
#define SMALLEST (RING_BYTES / RING_CHUNKS)
static_assert(RING_BYTES % 256 == 0 && RING_BYTES >= 2 * CHUNK_BYTES, "a ring holds two chunks at least");
#define RING_AT ((SHARED_FIXED + 127) / 128 * 128)      // byte of shared memory where the first warp's ring starts

struct Taken { u32 bytes, chunks; };    // since the launch began; bytes with what was skipped or rounded

DEV u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

DEV void barrier_init(u64* barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(shared_address(barrier)) : "memory");
}
// The copy engine will bring so many bytes; the barrier's phase ends when they are there.
DEV void barrier_expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
}
DEV bool barrier_passed(u64* barrier, u32 phase) {
    u32 passed;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(passed) : "r"(shared_address(barrier)), "r"(phase & 1) : "memory");
    return passed;
}
// The same without sleeping.
DEV bool barrier_done(u64* barrier, u32 phase) {
    u32 passed;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(passed) : "r"(shared_address(barrier)), "r"(phase & 1) : "memory");
    return passed;
}
DEV void barrier_wait(u64* barrier, u32 phase) {
    for (u32 n = 0; !barrier_passed(barrier, phase); ) spun(n);
}
DEV void bulk_copy(void* to, const void* from, u32 bytes, u64* barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        :: "r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(barrier)) : "memory");
}
// The same for bytes that are read once a step and need not stay in L2.
DEV void bulk_copy_once(u32 to, const void* from, u32 bytes, u64* barrier) {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;"
        :: "r"(to), "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy) : "memory");
}

// Where a chunk of so many bytes lies; `bytes` moves over what the ring's end leaves empty.
DEV u32 ring_place(u32& bytes, u32 size) {
    u32 at = bytes % RING_BYTES;
    if (at + size > RING_BYTES) bytes += RING_BYTES - at, at = 0;
    return at;
}
DEV u32 ring_charge(u32 size) { return max(size, (u32)SMALLEST); }
