"""Other people's models and units as they look from outside, in own transcriptions, for the tests of patch()."""

import torch
import units
from torch import nn

V = 17
A3 = units.adjacency(3, V)


class GraphConvolution(nn.Module):
    """ST-GCN's, of another name."""

    def __init__(self, C, D, kernel_size, **sizes):
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(C, D * kernel_size, 1, **sizes)

    def forward(self, x, A):
        h = self.conv(x)
        return torch.einsum("nkctv,kvw->nctw", h.unflatten(1, (self.kernel_size, -1)), A), A


class Block(nn.Module):
    """ST-GCN's."""

    def __init__(self, C, D, stride=1):
        super().__init__()
        self.gcn = GraphConvolution(C, D, 3)
        taps = nn.Conv2d(D, D, (3, 1), (stride, 1), (1, 0))
        self.tcn = nn.Sequential(nn.BatchNorm2d(D), nn.ReLU(inplace=True), taps, nn.BatchNorm2d(D), nn.Dropout(0.0))

    def forward(self, x, A):
        h, A = self.gcn(x, A)
        return self.tcn(h).relu(), A


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("A", A3.clone())
        self.blocks = nn.ModuleList([Block(3, 8), Block(8, 8), Block(8, 12, 2)])
        self.importance = nn.ParameterList([torch.ones(3, V, V) for _ in self.blocks])
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        for block, importance in zip(self.blocks, self.importance, strict=True):
            x, _ = block(x, self.A * importance)
        return self.fc(x.mean((2, 3)))


def down(C, D):
    return nn.Sequential(nn.Conv2d(C, D, 1), nn.BatchNorm2d(D)) if C != D else lambda x: x


class Pyskl(nn.Module):
    """pyskl's unit_gcn; ``how`` is init, offset, importance or fixed."""

    def __init__(self, C, D, how="importance", order="pre", residual=True, act=None):
        super().__init__()
        self.how, self.order, self.residual = how, order, residual
        if how == "init":
            self.A = nn.Parameter(A3.clone())
        else:
            self.register_buffer("A", A3.clone())
        if how in ("offset", "importance"):
            self.PA = nn.Parameter(torch.full((3, V, V), float(how == "importance")))
        self.conv = nn.Conv2d(C, 3 * D, 1) if order == "pre" else nn.Conv2d(3 * C, D, 1)
        self.bn, self.act = nn.BatchNorm2d(D, eps=1e-3, momentum=0.3), act or nn.ReLU(inplace=True)
        if residual:
            self.down = down(C, D)

    def forward(self, x, A=None):
        A = {"offset": lambda: self.A + self.PA, "importance": lambda: self.A * self.PA}.get(self.how, lambda: self.A)()
        if self.order == "pre":
            h = torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (3, -1)), A)
        else:
            h = self.conv(torch.einsum("nctv,kvw->nkctw", x, A).flatten(1, 2))
        return self.act(self.bn(h) + (self.down(x) if self.residual else 0))


class Relations(nn.Module):
    """CTR-GCN's CTRGC, from the left or the right."""

    def __init__(self, C, D, side):
        super().__init__()
        self.side = side
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(C, width, 1) for width in (2, 2, D))
        self.conv4, self.tanh = nn.Conv2d(2, D, 1), nn.Tanh()

    def forward(self, x, A=None, alpha=1):
        source, target = self.conv1(x).mean(2), self.conv2(x).mean(2)
        graph = self.conv4(self.tanh(source[..., :, None] - target[..., None, :])) * alpha
        graph = graph + (0 if A is None else A)
        rule = "ncwv,nctv->nctw" if self.side == "left" else "ncvw,nctv->nctw"
        return torch.einsum(rule, graph, self.conv3(x))


class Refined(nn.Module):
    """CTR-GCN's unit_gcn (left, PA) and pyskl's (right, A); ``learned`` False keeps A outside the state."""

    def __init__(self, C, D, side="left", learned=True, residual=True):
        super().__init__()
        self.name = "PA" if side == "left" and learned else "A"
        setattr(self, self.name, nn.Parameter(A3.clone()) if learned else A3.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(Relations(C, D, side) for _ in range(3))
        self.down = down(C, D) if residual else lambda x: 0
        self.bn, self.soft = nn.BatchNorm2d(D), nn.Softmax(-2)

    def forward(self, x):
        A = getattr(self, self.name)
        h = sum(conv(x, A[k], self.alpha) for k, conv in enumerate(self.convs))
        return (self.bn(h) + self.down(x)).relu()


class Adaptive(nn.Module):
    """2s-AGCN's unit_gcn (softmax, A outside the state), AAGCN's and pyskl's without attention (tanh, alpha)."""

    def __init__(self, C, D, name=None):
        super().__init__()
        self.name = name
        self.conv_a, self.conv_b, self.conv_d = (
            nn.ModuleList(nn.Conv2d(C, width, 1) for _ in range(3)) for width in (D // 4, D // 4, D)
        )
        if name is None:
            self.A, self.PA = A3.clone(), nn.Parameter(torch.full((3, V, V), 1e-6))
        else:
            setattr(self, name, nn.Parameter(A3.clone()))
            self.alpha = nn.Parameter(torch.zeros(1))
        self.down, self.bn = down(C, D), nn.BatchNorm2d(D)

    def forward(self, x):
        N, _, T, _ = x.shape
        h = 0
        for k in range(3):
            a, b = self.conv_a[k](x).flatten(1, 2), self.conv_b[k](x).flatten(1, 2)
            similar = a.transpose(1, 2) @ b / a.shape[1]
            if self.name is None:
                graph = similar.softmax(1) + self.A[k] + self.PA[k]
            else:
                graph = getattr(self, self.name)[k] + similar.tanh() * self.alpha
            h = h + self.conv_d[k]((x.flatten(1, 2) @ graph).view(x.shape))
        return (self.bn(h) + self.down(x)).relu()


class Decoupled(nn.Module):
    """DecoupleGCN's unit_gcn."""

    def __init__(self, C, D, groups=4):
        super().__init__()
        self.DecoupleA = nn.Parameter(A3[:, None].repeat(1, groups, 1, 1))
        self.Linear_weight, self.Linear_bias = (
            nn.Parameter(torch.randn(C, 3 * D)),
            nn.Parameter(torch.zeros(1, 3 * D, 1, 1)),
        )
        self.eyes = nn.Parameter(torch.eye(V).repeat(D, 1, 1), requires_grad=False)
        self.bn0, self.bn, self.down = nn.BatchNorm2d(3 * D), nn.BatchNorm2d(D), down(C, D)

    def forward(self, x):
        A = self.DecoupleA.repeat(1, len(self.eyes) // self.DecoupleA.shape[1], 1, 1)
        A = A @ (self.eyes * (A.sum(2, keepdim=True) + 0.001) ** -1)
        h = self.bn0(torch.einsum("nctv,cd->ndtv", x, self.Linear_weight) + self.Linear_bias)
        h = torch.einsum("nkctv,kcvw->nctw", h.unflatten(1, (3, -1)), A)
        return (self.bn(h) + self.down(x)).relu()


class Scales(nn.Module):
    """MS-G3D's multi-scale graph convolution, its graphs outside the state."""

    def __init__(self, C, D, learned=True, dropout=None):
        super().__init__()
        self.A_powers = A3.transpose(1, 2).reshape(3 * V, V).clone()
        if learned:
            self.A_res = nn.Parameter(torch.zeros(3 * V, V))
        self.learned, self.mlp = learned, nn.Module()
        layers = [nn.Conv2d(3 * C, D, 1), nn.BatchNorm2d(D), nn.LeakyReLU(0.2)]
        self.mlp.layers = nn.ModuleList([nn.Dropout(dropout), *layers] if dropout else layers)

    def forward(self, x):
        A = (self.A_powers + self.A_res if self.learned else self.A_powers).view(3, V, V)
        h = torch.einsum("kwv,nctv->nkctw", A, x).flatten(1, 2)
        for layer in self.mlp.layers:
            h = layer(h)
        return h


class Windows(nn.Module):
    """MS-G3D's windows over three frames."""

    window_size, window_stride, window_dilation = 3, 1, 1

    def forward(self, x):
        windows = nn.functional.pad(x, (0, 0, 1, 1)).unfold(2, 3, 1)
        return windows.transpose(3, 4).flatten(3)


class Scales3D(Scales):
    """MS-G3D's graph convolution over windows."""

    num_scales = 3

    def __init__(self, C, D, residual):
        super().__init__(C, D)
        self.A_scales = torch.rand(9 * V, 3 * V)
        del self.A_powers
        self.A_res = nn.Parameter(torch.zeros(9 * V, 3 * V))
        self.residual, self.act = residual, nn.ReLU()

    def forward(self, x):
        h = torch.einsum("kwv,nctv->nkctw", (self.A_scales + self.A_res).view(3, 3 * V, 3 * V), x).flatten(1, 2)
        for layer in self.mlp.layers:
            h = layer(h)
        return self.act(h + (x if self.residual else 0))


class G3D(nn.Module):
    """MS-G3D's MS_G3D."""

    window_size = 3

    def __init__(self, C, D, residual=False):
        super().__init__()
        self.in1x1, self.gcn3d = nn.Identity(), nn.Sequential(Windows(), Scales3D(C, C, residual))
        self.out_conv, self.out_bn = nn.Conv3d(C, D, (1, 3, 1)), nn.BatchNorm2d(D)

    def forward(self, x):
        h = self.gcn3d(self.in1x1(x))
        return self.out_bn(self.out_conv(h.unflatten(3, (3, V))).squeeze(3))
