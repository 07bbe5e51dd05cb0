#pragma once
#include "../common/frame_drop.h"
#include "../common/philox.h"
#include "../common/scalar.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // energies: room for (N, T); kept: contiguous (N, C, left, V, M); frames: contiguous (N, left); clips [begin, end).
    template <class T> void frame_drop(const ::asma::FrameDrop& a, ::asma::Philox random, const T* x, T* energies,
                                       T* kept, int64_t* frames, int64_t begin, int64_t end);)
