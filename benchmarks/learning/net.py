"""The network in PyTorch; `physics/learned/network.py` applies the same with numpy."""
import torch, torch.nn as nn, torch.nn.functional as F
CH=9
class Res(nn.Module):
    def __init__(s,c):
        super().__init__(); s.a=nn.Conv2d(c,c,3,padding=1); s.b=nn.Conv2d(c,c,3,padding=1)
        nn.init.normal_(s.b.weight,0,.02)
    def forward(s,x): return x+s.b(F.relu(s.a(F.relu(x))))
class Net(nn.Module):
    def __init__(s,c1=48,c2=64,c3=80,n1=2,n2=2,n3=2,ch=CH):
        super().__init__()
        s.head=nn.Conv2d(4*ch,c1,3,padding=1)
        s.e1=nn.Sequential(*[Res(c1) for _ in range(n1)]); s.d1=nn.Conv2d(c1,c2,2,2)
        s.e2=nn.Sequential(*[Res(c2) for _ in range(n2)]); s.d2=nn.Conv2d(c2,c3,2,2)
        s.e3=nn.Sequential(*[Res(c3) for _ in range(n3)]); s.u2=nn.Conv2d(c3,4*c2,1)
        s.f2=nn.Sequential(*[Res(c2) for _ in range(n2)]); s.u1=nn.Conv2d(c2,4*c1,1)
        s.f1=nn.Sequential(*[Res(c1) for _ in range(n1)]); s.tail=nn.Conv2d(c1,8,3,padding=1)
        nn.init.normal_(s.tail.weight,0,.005); nn.init.zeros_(s.tail.bias)
    def forward(s,x):
        """x (b, ch, H, W), H and W multiples of 8 -> (b, 2, H, W)"""
        x=s.e1(s.head(F.pixel_unshuffle(x,2)))
        y=s.e2(s.d1(x)); z=s.e3(s.d2(y))
        y=s.f2(y+F.pixel_shuffle(s.u2(z),2)); x=s.f1(x+F.pixel_shuffle(s.u1(y),2))
        return F.pixel_shuffle(s.tail(x),2)
def count(m): return sum(p.numel() for p in m.parameters())
