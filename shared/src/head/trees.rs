//! The forest of a trees head: every tree leads the frame's numbers to a leaf, and the leaves' mean or median is the answer.

use super::error::LoadError;
use super::limits;
use super::manifest::{Combine, Input, Trees};
use super::maps::{MapShape, pyramid, scales};
use super::tensors::TensorSet;

/// In a node's place for the second number: the first is compared alone.
pub const NO_SECOND: u32 = u32::MAX;

/// A checked forest; see [`Trees`] for its tensors.
#[derive(Debug)]
pub(super) struct Forest {
    source: Source,
    roots: Vec<u32>,
    nodes: Vec<Node>,
    /// `[leaves, width]`
    leaves: Vec<f32>,
    width: usize,
    combine: Combine,
}

#[derive(Debug)]
struct Node {
    /// A number's place; for a leaf its row among the leaves.
    first: u32,
    second: u32,
    threshold: f32,
    /// The left child, the right one follows; 0 for a leaf.
    child: u32,
}

/// What the trees' numbers are made of.
#[derive(Debug)]
enum Source {
    Embedding,
    Maps { grid: super::manifest::Grid, scales: Vec<MapShape> },
}

impl Forest {
    pub(super) fn take(
        options: Trees,
        input: &Input,
        width: usize,
        tensors: &mut TensorSet<'_>,
    ) -> Result<Self, LoadError> {
        let (source, numbers) = match input.grid {
            None => (Source::Embedding, input.dim as usize),
            Some(grid) => {
                let scales = scales(grid.map_shape(), options.scales as usize);
                let numbers = scales.iter().map(MapShape::numbers).sum();
                (Source::Maps { grid, scales }, numbers)
            }
        };
        let trees = tensors.rows("tree.root", limits::MAX_TREES, &[])?;
        let count = tensors.rows("tree.node", limits::MAX_NODES, &[3])?;
        let leaf_count = tensors.rows("tree.leaf", limits::MAX_NODES, &[width])?;
        let roots = tensors.indices("tree.root", &[trees])?;
        let triples = tensors.indices("tree.node", &[count, 3])?;
        let thresholds = tensors.values("tree.threshold", &[count])?;
        let leaves = tensors.values("tree.leaf", &[leaf_count, width])?;
        if let Some(root) = roots.iter().find(|root| **root as usize >= count) {
            return Err(tensors.wrong("tree.root", format!("{root}"), format!("nodes below {count}")));
        }
        let mut nodes = Vec::with_capacity(count);
        for (at, (triple, threshold)) in triples.as_chunks::<3>().0.iter().zip(thresholds).enumerate() {
            let [first, second, child] = *triple;
            let node = Node { first, second, threshold, child };
            if let Some(want) = node.objection(at, Bounds { numbers, nodes: count, leaves: leaf_count }) {
                return Err(tensors.wrong("tree.node", format!("{triple:?} at node {at}"), want));
            }
            nodes.push(node);
        }
        Ok(Self { source, roots, nodes, leaves, width, combine: options.combine })
    }

    /// Operations of one [`forward`](Self::forward), at most: every tree down its longest way, a subtraction and a comparison
    /// a node; a mean of four for each number of a coarser scale.
    pub(super) fn flops(&self) -> u64 {
        // Children stand after their parents: from the end on, a node's are known.
        let mut deepest = vec![0u64; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().rev() {
            let child = node.child as usize;
            if child != 0 {
                deepest[at] = 1 + deepest[child].max(deepest[child + 1]);
            }
        }
        let walked: u64 = self.roots.iter().map(|root| 2 * deepest[*root as usize]).sum();
        let coarse: usize = match &self.source {
            Source::Embedding => 0,
            Source::Maps { scales, .. } => scales.iter().skip(1).map(|scale| 4 * scale.numbers()).sum(),
        };
        coarse as u64 + walked + self.combine.flops(self.roots.len() as u64, self.width as u64)
    }

    /// Mean or median of the leaves that `input` (an embedding, or latent tokens) is led to, `[width]`.
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let numbers = match &self.source {
            Source::Embedding => std::borrow::Cow::Borrowed(input),
            Source::Maps { grid, scales } => pyramid(grid.unfold(input), scales).into(),
        };
        let mut answers = Vec::with_capacity(self.roots.len() * self.width);
        for root in &self.roots {
            let leaf = self.leaf(*root as usize, &numbers);
            answers.extend_from_slice(&self.leaves[leaf * self.width..(leaf + 1) * self.width]);
        }
        self.combine.of(&answers, self.width).into_iter().map(|number| number as f32).collect()
    }

    /// The leaf of one tree. It ends, because every child stands after its parent.
    fn leaf(&self, root: usize, numbers: &[f32]) -> usize {
        let mut node = &self.nodes[root];
        while node.child != 0 {
            let second = if node.second == NO_SECOND { 0.0 } else { numbers[node.second as usize] };
            let value = numbers[node.first as usize] - second;
            node = &self.nodes[node.child as usize + usize::from(value > node.threshold)];
        }
        node.first as usize
    }
}

/// What a node's indices must stay below.
struct Bounds {
    numbers: usize,
    nodes: usize,
    leaves: usize,
}

impl Node {
    /// What this node should be instead, if it leads out of the tensors or back.
    fn objection(&self, at: usize, bounds: Bounds) -> Option<String> {
        let [first, second, child] = [self.first, self.second, self.child].map(|index| index as usize);
        if child == 0 {
            return (first >= bounds.leaves).then(|| format!("a leaf below {}", bounds.leaves));
        }
        if child <= at || child + 1 >= bounds.nodes {
            return Some(format!("a child after node {at}, and it and the next below {}", bounds.nodes));
        }
        let second_ok = self.second == NO_SECOND || second < bounds.numbers;
        (first >= bounds.numbers || !second_ok)
            .then(|| format!("places below {} (or {NO_SECOND} for no second)", bounds.numbers))
    }
}
