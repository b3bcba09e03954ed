// What CubeCL's CUDA C++ and HIP C++ expect of a device, on the host. Freestanding: no header is included, so that
// the text's own names of integer types do not meet others.
typedef decltype(sizeof(0)) size_t;

struct uint3 { unsigned x, y, z; };

namespace emulated {

// `Request` of request.rs.
struct Request {
    unsigned kind, line, argument;
    unsigned words[32];

    Request(unsigned kind, unsigned line, unsigned argument = 0)
        : kind(kind), line(line), argument(argument) {
        for (unsigned &word : words) word = 0;
    }
    template <class T> void put(unsigned word, T value) {
        static_assert(sizeof(T) <= 8, "registers have 32 bits, values at most two of them");
        __builtin_memcpy(words + word, &value, sizeof(T));
    }
    template <class T> void get(unsigned word, T &value) const {
        __builtin_memcpy(&value, words + word, sizeof(T));
    }
    void meet();
};

// `Place` of request.rs.
struct Thread {
    uint3 thread, block, block_dim, grid_dim;
    char *shared;
};

// `Host` of object.rs.
struct Host {
    const Thread *(*thread)();
    void (*meet)(Request *);
};

static const Host *host;

inline void Request::meet() { host->meet(this); }

// The numbers of request.rs.
enum : unsigned {
    BLOCK, WARP, SHUFFLE, SHUFFLE_XOR, SHUFFLE_UP, SHUFFLE_DOWN, ANY, ALL, BALLOT,
    RDNA3_F16 = 13, RDNA3_BF16, RDNA4_F16, RDNA4_BF16
};

inline void meet(unsigned kind, unsigned line) { Request(kind, line).meet(); }

template <class T> T shuffle(unsigned kind, T value, unsigned argument, unsigned line) {
    Request request(kind, line, argument);
    request.put(0, value);
    request.meet();
    request.get(0, value);
    return value;
}

inline unsigned vote(unsigned kind, bool predicate, unsigned line) {
    Request request(kind, line);
    request.put(0, unsigned(predicate));
    request.meet();
    return request.words[0];
}

inline unsigned bits(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

inline float of_bits(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

// To the nearest, ties to even.
inline unsigned short to_half(float value) {
    unsigned from = bits(value), sign = from >> 16 & 0x8000, magnitude = from & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) {
        // The sum's last place is the smallest half.
        return sign | (bits(of_bits(magnitude) + 0.5f) - 0x3f000000);
    }
    return sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

inline float of_half(unsigned short half) {
    unsigned sign = unsigned(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) return of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude < 0x400) return of_bits(sign | bits(magnitude * 0x1p-24f));
    return of_bits(sign | ((magnitude << 13) + 0x38000000));
}

inline unsigned short to_bfloat(float value) {
    unsigned from = bits(value);
    if ((from & 0x7fffffff) > 0x7f800000) return (from >> 16) | 0x40;
    return (from + 0x7fff + (from >> 16 & 1)) >> 16;
}

inline float of_bfloat(unsigned short half) { return of_bits(unsigned(half) << 16); }

// A 16-bit number, whose arithmetic is that of `float`, rounded.
template <unsigned short (*TO)(float), float (*OF)(unsigned short)> struct Short {
    unsigned short bits;
    Short() = default;
    template <class T> Short(T value) : bits(TO(float(value))) {}
    operator float() const { return OF(bits); }
    Short operator-() const { return Short(-float(*this)); }
    Short &operator+=(float other) { return *this = Short(float(*this) + other); }
    Short &operator-=(float other) { return *this = Short(float(*this) - other); }
    Short &operator*=(float other) { return *this = Short(float(*this) * other); }
};

// A value's arguments, one after the other.
template <size_t... I> struct Indices {};
template <size_t N, size_t... I> struct Upto : Upto<N - 1, N - 1, I...> {};
template <size_t... I> struct Upto<0, I...> { typedef Indices<I...> type; };
template <class T> struct Plain { typedef T type; };
template <class T> struct Plain<const T> { typedef T type; };
template <class T> T &at(void *value) { return *static_cast<T *>(value); }
template <class... A, size_t... I>
void call(void (*kernel)(A...), void *const *arguments, Indices<I...>) {
    kernel(at<typename Plain<A>::type>(arguments[I])...);
}
template <class... A> void call(void (*kernel)(A...), void *const *arguments) {
    call(kernel, arguments, typename Upto<sizeof...(A)>::type());
}
template <class... A> constexpr size_t count(void (*)(A...)) { return sizeof...(A); }

} // namespace emulated

typedef emulated::Short<emulated::to_half, emulated::of_half> __half;
typedef emulated::Short<emulated::to_bfloat, emulated::of_bfloat> __nv_bfloat16;

typedef __nv_bfloat16 __hip_bfloat16;

namespace emulated {

// Clang's vectors of HIP.
template <class T, size_t N> struct Wide {
    T values[N];
    T &operator[](size_t i) { return values[i]; }
};

inline unsigned wmma(const Wide<__half, 16> &) { return RDNA3_F16; }
inline unsigned wmma(const Wide<__hip_bfloat16, 16> &) { return RDNA3_BF16; }
inline unsigned wmma(const Wide<__half, 8> &) { return RDNA4_F16; }
inline unsigned wmma(const Wide<__hip_bfloat16, 8> &) { return RDNA4_BF16; }

template <class A>
void multiply(unsigned line, const A &a, const A &b, const Wide<float, 8> &c, Wide<float, 8> &d) {
    Request request(wmma(a), line);
    const size_t words = sizeof(A) / 4;
    __builtin_memcpy(request.words, &a, sizeof(A));
    __builtin_memcpy(request.words + words, &b, sizeof(A));
    __builtin_memcpy(request.words + 2 * words, &c, sizeof(c));
    request.meet();
    __builtin_memcpy(&d, request.words, sizeof(d));
}

} // namespace emulated

typedef emulated::Wide<__half, 8> half8_t;
typedef emulated::Wide<__half, 16> half16_t;
typedef emulated::Wide<__hip_bfloat16, 8> bhalf8_t;
typedef emulated::Wide<__hip_bfloat16, 16> bhalf16_t;
typedef emulated::Wide<float, 8> float8_t;

#define threadIdx (emulated::host->thread()->thread)
#define blockIdx (emulated::host->thread()->block)
#define blockDim (emulated::host->thread()->block_dim)
#define gridDim (emulated::host->thread()->grid_dim)
#define warpSize 32
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __syncthreads() emulated::meet(emulated::BLOCK, __LINE__)
#define __threadfence()
#define __syncwarp(...) emulated::meet(emulated::WARP, __LINE__)
// HIP's barrier of a plane.
#define __builtin_amdgcn_fence(...)
#define __builtin_amdgcn_wave_barrier() __syncwarp()
#define __activemask() 0xffffffffu
#define __shfl_sync(mask, value, lane) \
    emulated::shuffle(emulated::SHUFFLE, value, lane, __LINE__)
#define __shfl_xor_sync(mask, value, other) \
    emulated::shuffle(emulated::SHUFFLE_XOR, value, other, __LINE__)
#define __shfl_up_sync(mask, value, by) \
    emulated::shuffle(emulated::SHUFFLE_UP, value, by, __LINE__)
#define __shfl_down_sync(mask, value, by) \
    emulated::shuffle(emulated::SHUFFLE_DOWN, value, by, __LINE__)
#define __any_sync(mask, predicate) bool(emulated::vote(emulated::ANY, predicate, __LINE__))
#define __all_sync(mask, predicate) bool(emulated::vote(emulated::ALL, predicate, __LINE__))
#define __ballot_sync(mask, predicate) emulated::vote(emulated::BALLOT, predicate, __LINE__)
#define __shfl(value, lane) emulated::shuffle(emulated::SHUFFLE, value, lane, __LINE__)
#define __shfl_xor(value, other) emulated::shuffle(emulated::SHUFFLE_XOR, value, other, __LINE__)
#define __shfl_up(value, by) emulated::shuffle(emulated::SHUFFLE_UP, value, by, __LINE__)
#define __shfl_down(value, by) emulated::shuffle(emulated::SHUFFLE_DOWN, value, by, __LINE__)
#define __any(predicate) int(emulated::vote(emulated::ANY, predicate, __LINE__))
#define __all(predicate) int(emulated::vote(emulated::ALL, predicate, __LINE__))
#define __ballot(predicate) \
    (unsigned long long)(emulated::vote(emulated::BALLOT, predicate, __LINE__))

inline unsigned __cvta_generic_to_shared(const void *pointer) {
    return unsigned(static_cast<const char *>(pointer) - emulated::host->thread()->shared);
}

inline float exp(float x) { return __builtin_expf(x); }
inline float exp2(float x) { return __builtin_exp2f(x); }
inline float log(float x) { return __builtin_logf(x); }
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float sin(float x) { return __builtin_sinf(x); }
inline float cos(float x) { return __builtin_cosf(x); }
inline float tanh(float x) { return __builtin_tanhf(x); }
inline float erf(float x) { return __builtin_erff(x); }
inline float fabs(float x) { return __builtin_fabsf(x); }
inline float floor(float x) { return __builtin_floorf(x); }
inline float ceil(float x) { return __builtin_ceilf(x); }
inline float trunc(float x) { return __builtin_truncf(x); }
inline float rint(float x) { return __builtin_rintf(x); }
inline float pow(float x, float y) { return __builtin_powf(x, y); }
inline float powf(float x, float y) { return __builtin_powf(x, y); }
inline float fmod(float x, float y) { return __builtin_fmodf(x, y); }
inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline float min(float a, float b) { return __builtin_fminf(a, b); }
template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }
inline int abs(int x) { return x < 0 ? -x : x; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return unsigned((unsigned long long)(a) * b >> 32);
}
