"""Linear layers on encrypted numbers: what GAZELLE and MiniONN compute by lattice encryption, between two parties.

A `ClientLattice` holds the secret key, a `ServerLattice` the weights. GAZELLE's layers (`PackedConvolution`,
`PackedProduct`) take the client's encrypted share of a layer's input and give it a share of the output, online;
MiniONN's (`TripletConvolution`) make shares of products with random inputs, offline. All are exact modulo t, secure
against semi-honest parties, and know their bytes and operations beforehand. Nothing here sends: messages are bytes that
the caller carries.
"""

from comparison.lattice.coefficients import draw_residues
from comparison.lattice.encryption import ClientLattice, LatticeError, ServerLattice
from comparison.lattice.packed_convolution import PackedConvolution, PreparedConvolution
from comparison.lattice.packed_product import PackedProduct, PreparedProduct
from comparison.lattice.packing import ConvolutionShape, Packing, packing_of
from comparison.lattice.parameters import LatticeParameters, batching_prime
from comparison.lattice.rotations_plan import RotationsPlan, UnitCosts, cheapest_plan
from comparison.lattice.triplets import PreparedTriplets, TripletConvolution

__all__ = [
    "ClientLattice",
    "ConvolutionShape",
    "LatticeError",
    "LatticeParameters",
    "PackedConvolution",
    "PackedProduct",
    "Packing",
    "PreparedConvolution",
    "PreparedProduct",
    "PreparedTriplets",
    "RotationsPlan",
    "ServerLattice",
    "TripletConvolution",
    "UnitCosts",
    "batching_prime",
    "cheapest_plan",
    "draw_residues",
    "packing_of",
]
