// The product of all order rows² work: a square tile of A · Bᵀ, from shared memory, in the registers of 256 threads.
//
// Each thread owns kMicro x kMicro elements and adds to each one chain of fused multiply-adds in the order of k, wherever the
// tile lies and whatever it is padded with. So equal rows give equal products, and S_ij and S_ji have the same bits.
//
// Slabs of 64 bytes of depth arrive by asynchronous copies, one slab ahead of the arithmetic, with one barrier for each. What lies
// outside the operand arrives as zeros: the arithmetic knows no edges.
//
// An operand may lie in memory along the depth (`Along::depth`: row i at i * stride) or across it (`Along::rows`: number k of
// every row at k * stride). Its slab keeps that direction, and either is read 16 bytes at a time without bank conflicts:
//   depth   [tile][depth + 16 bytes]     element m of thread t is row t + 16 m
//   rows    [depth][tile]                element m of thread t is row 16 V (m / V) + V t + m % V
#pragma once

#include "device.h"
#include "kernels.h"

namespace fused_rank::cuda {

inline constexpr int kThreads = 256;  // 16 x 16: thread t has rows of ty = t / 16 and columns of tx = t % 16
inline constexpr unsigned kWarp = 0xffffffffu;

template <class T>
inline constexpr int kMicro = kTile<T> / 16;
template <class T>
inline constexpr int kVector = 16 / sizeof(T);  // numbers in 16 bytes
template <class T>
inline constexpr int kDepth = 64 / sizeof(T);  // of a slab
template <class T>
inline constexpr int kSlab = kTile<T> * (kDepth<T> + kVector<T>);  // numbers, of the larger layout
// Two slabs of either operand. Free for other use once `multiply` has returned and a barrier has passed.
template <class T>
inline constexpr int kStage = 4 * kSlab<T>;

template <class T>
struct alignas(16) Vector {
  T v[kVector<T>];
};

enum class Along { depth, rows };

// One operand of a tile: `rows` rows (the tile's other rows are zero) of `depth` numbers. A multiple of 16 bytes may be read
// beyond `rows` or `depth`, up to the stride.
template <class T, Along along>
struct Source {
  const T* data;
  int64_t stride;
  int rows, depth;
};

FR_DEVICE int thread_x() { return static_cast<int>(threadIdx.x % 16); }
FR_DEVICE int thread_y() { return static_cast<int>(threadIdx.x / 16); }

// The row of a tile that element m of thread t (tx or ty) belongs to.
template <class T, Along along>
FR_DEVICE int element(int t, int m) {
  if constexpr (along == Along::depth) return t + 16 * m;
  return 16 * kVector<T> * (m / kVector<T>)+kVector<T> * t + m % kVector<T>;
}

// Starts the copy of depth [k, k + kDepth).
template <class T, Along along>
FR_DEVICE void fetch(const Source<T, along>& from, int k, T* slab) {
  constexpr int kLine = along == Along::depth ? kDepth<T> : kTile<T>;  // contiguous numbers
  constexpr int kPitch = along == Along::depth ? kDepth<T> + kVector<T> : kTile<T>;
  constexpr int kPieces = kTile<T> * kDepth<T> / kVector<T>;
#pragma unroll
  for (int first = 0; first < kPieces; first += kThreads) {
    const int piece = first + static_cast<int>(threadIdx.x);
    const int line = piece / (kLine / kVector<T>), at = piece % (kLine / kVector<T>)*kVector<T>;
    const int row = along == Along::depth ? line : at, depth = along == Along::depth ? at : line;
    const T* place =
        from.data + (along == Along::depth ? k : k * from.stride) + line * static_cast<int>(from.stride) + at;
    async_copy16(slab + line * kPitch + at, place, row < from.rows && depth < from.depth - k);
  }
}

template <class T>
FR_DEVICE Vector<T> read16(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}

// Elements [V g, V g + V) of thread t at depths [k, k + V): out[element][depth].
template <class T, Along along>
FR_DEVICE void read(const T* slab, int t, int g, int k, T (&out)[kVector<T>][kVector<T>]) {
  constexpr int V = kVector<T>;
#pragma unroll
  for (int l = 0; l < V; ++l) {
    const Vector<T> line = along == Along::depth
                               ? read16(slab + element<T, along>(t, V * g + l) * (kDepth<T> + V) + k)
                               : read16(slab + (k + l) * kTile<T> + element<T, along>(t, V * g));
#pragma unroll
    for (int v = 0; v < V; ++v) (along == Along::depth ? out[l][v] : out[v][l]) = line.v[v];
  }
}

template <class T, Along along_a, Along along_b>
FR_DEVICE void multiply_slab(const T* a, const T* b, T (&sums)[kMicro<T>][kMicro<T>]) {
  constexpr int V = kVector<T>, kGroups = kMicro<T> / V;
#pragma unroll 1
  for (int k = 0; k < kDepth<T>; k += V) {
    T columns[kGroups][V][V];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) read<T, along_b>(b, thread_x(), g, k, columns[g]);
    const auto add = [&](int r, int v, T row) {
#pragma unroll
      for (int c = 0; c < kMicro<T>; ++c)
        sums[r][c] = multiply_add(row, columns[c / V][c % V][v], sums[r][c]);
    };
    if constexpr (along_a == Along::depth) {
#pragma unroll
      for (int r = 0; r < kMicro<T>; ++r) {
        const Vector<T> row = read16(a + element<T, along_a>(thread_y(), r) * (kDepth<T> + V) + k);
#pragma unroll
        for (int v = 0; v < V; ++v) add(r, v, row.v[v]);
      }
    } else {
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int h = 0; h < kGroups; ++h) {
          const Vector<T> rows = read16(a + (k + v) * kTile<T> + element<T, along_a>(thread_y(), V * h));
#pragma unroll
          for (int l = 0; l < V; ++l) add(V * h + l, v, rows.v[l]);
        }
    }
  }
}

// Every slab of a depth, in order. `multiply` takes any order of slabs that `after` tells (-kDepth: before the first).
template <class T>
struct EverySlab {
  FR_DEVICE int after(int k) const { return k + kDepth<T>; }
};

// sums += a · bᵀ over the slabs, one after another. All threads of the block. `stage` is left with readers.
template <class T, Along along_a, Along along_b, class Slabs>
FR_DEVICE void multiply(const Source<T, along_a>& a, const Source<T, along_b>& b, const Slabs& slabs,
                        T* stage, T (&sums)[kMicro<T>][kMicro<T>]) {
  int now = -kDepth<T>, half = 1;
#pragma unroll 1
  do {
    async_wait<0>();
    __syncthreads();  // slab `now` has arrived for all, and nobody reads the other any more
    const int next = slabs.after(now);
    if (next < a.depth) {
      T* slab = stage + (half ^ 1) * 2 * kSlab<T>;
      fetch(a, next, slab);
      fetch(b, next, slab + kSlab<T>);
      async_commit();
    }
    const T* slab = stage + half * 2 * kSlab<T>;
    if (now >= 0) multiply_slab<T, along_a, along_b>(slab, slab + kSlab<T>, sums);
    now = next;
    half ^= 1;
  } while (now < a.depth);
}

template <class T>
FR_DEVICE void clear(T (&sums)[kMicro<T>][kMicro<T>]) {
#pragma unroll
  for (int r = 0; r < kMicro<T>; ++r)
#pragma unroll
    for (int c = 0; c < kMicro<T>; ++c) sums[r][c] = T(0);
}

}  // namespace fused_rank::cuda
