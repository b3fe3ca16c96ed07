//! Large blocks of memory never lie in the heap: each is asked of the system, and given back to it when it is freed.
//!
//! A call's rings (voice, ears, recorder) and buffers are large, live as long as the call, and only their first pages are
//! touched in a short one. In a common heap they lie between what is small and kept. Each call's rings then come to lie in
//! other gaps than the last one's, a few more pages are touched for the first time, and none ever goes back: gaps are not
//! given back by themselves, and cannot be while memory is locked (`madvise` refuses locked pages). So resident memory
//! creeps up to the largest size that the heap has had, by some hundred bytes a call (case 48). glibc has a bound above
//! which blocks lie apart, but only when no gap is large enough, and it raises the bound with what is freed.
//!
//! What it costs: a call has five to seven such blocks, so about as many system calls at its beginning and end, made by the
//! thread that sets calls up and not by a real-time one. The system allows 65,530 mappings a process
//! (`vm.max_map_count`), which is some 9,000 calls at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is at least so large, in bytes, lies apart: four pages, so that rounding up to pages costs little.
pub const LARGE: usize = 16 * 1024;

/// What the system's blocks are aligned to, at least.
const PAGE: usize = 4096;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Bytes in large blocks that are in use, in a program whose allocator keeps them apart; 0 in others.
#[must_use]
pub fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// The system's allocator, with large blocks apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LargeApart;

/// The same for a block's whole life, as its layout is.
fn is_large(size: usize, align: usize) -> bool {
    size >= LARGE && align <= PAGE
}

/// Asks the system for a block of zeros; null if it has none.
fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, of a size above 0, wherever the system has room for it.
    let block = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if block == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    IN_USE.fetch_add(size, Ordering::Relaxed);
    block.cast()
}

/// Gives a block back.
///
/// # Safety
/// It is one of [`map`]'s, of this size, and not used any more.
unsafe fn unmap(block: *mut u8, size: usize) {
    // SAFETY: by the contract above. The system rounds the size up to pages as it did before.
    let _ = unsafe { libc::munmap(block.cast(), size) };
    IN_USE.fetch_sub(size, Ordering::Relaxed);
}

/// Makes a block larger or smaller, perhaps elsewhere; null, and the block as it was, if the system has no room.
///
/// # Safety
/// It is one of [`map`]'s, of this size.
unsafe fn remap(block: *mut u8, size: usize, new_size: usize) -> *mut u8 {
    // SAFETY: by the contract above; the pages keep what is in them.
    let moved = unsafe { libc::mremap(block.cast(), size, new_size, libc::MREMAP_MAYMOVE) };
    if moved == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    IN_USE.fetch_add(new_size, Ordering::Relaxed);
    IN_USE.fetch_sub(size, Ordering::Relaxed);
    moved.cast()
}

// SAFETY: a block is large or not by its layout alone, so it is freed by what it came from. Mappings are page-aligned and of
// at least the size asked for; nothing here allocates or unwinds.
unsafe impl GlobalAlloc for LargeApart {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same there.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match (is_large(layout.size(), layout.align()), is_large(new_size, layout.align())) {
            // SAFETY: a large block is one of `map`'s.
            (true, true) => unsafe { remap(block, layout.size(), new_size) },
            // SAFETY: what is not large came from `System`, and the caller keeps the rest of the contract.
            (false, false) => unsafe { System.realloc(block, layout, new_size) },
            _ => {
                // SAFETY: the caller keeps `realloc`'s contract: the new size is above 0 and no overflow with this alignment.
                let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
                if !moved.is_null() {
                    // SAFETY: both are valid for the smaller of the sizes and do not overlap; the old one came from here.
                    unsafe {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                }
                moved
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout.size(), layout.align()) {
            // SAFETY: a large block is one of `map`'s, and of its layout's size.
            return unsafe { unmap(block, layout.size()) };
        }
        // SAFETY: what is not large came from `System`, by the same layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_what_is_in_it_through_all_sizes_and_what_is_large_goes_back() {
        let mut random = fastrand::Rng::with_seed(48);
        for _ in 0..200 {
            let mut layout = Layout::from_size_align(random.usize(1..4 * LARGE), 1 << random.u32(0..8)).unwrap();
            let mut kept = layout.size();
            // SAFETY: the sizes are above 0, each layout is the block's own, and only what was allocated is touched.
            unsafe {
                let mut block = LargeApart.alloc_zeroed(layout);
                assert!((0..kept).all(|n| *block.add(n) == 0));
                (0..kept).for_each(|n| *block.add(n) = (n % 251) as u8);
                for _ in 0..5 {
                    let size = random.usize(1..4 * LARGE);
                    block = LargeApart.realloc(block, layout, size);
                    layout = Layout::from_size_align(size, layout.align()).unwrap();
                    kept = kept.min(size);
                    assert_eq!(block.addr() % layout.align(), 0);
                    assert!((0..kept).all(|n| *block.add(n) == (n % 251) as u8));
                    *block.add(size - 1) = ((size - 1) % 251) as u8; // all of it is ours
                }
                LargeApart.dealloc(block, layout);
            }
        }
        assert_eq!(in_use(), 0, "nothing else in this program uses it");
    }

    #[test]
    fn a_block_that_no_system_has_is_refused_and_the_old_one_stays() {
        let absurd = isize::MAX as usize - 4096;
        // SAFETY: as above; a refused reallocation leaves the block as it was.
        unsafe {
            assert!(LargeApart.alloc(Layout::from_size_align(absurd, 8).unwrap()).is_null());
            let small = Layout::from_size_align(8, 8).unwrap();
            let block = LargeApart.alloc(small);
            assert!(LargeApart.realloc(block, small, absurd).is_null());
            *block = 7;
            LargeApart.dealloc(block, small);
        }
    }
}
