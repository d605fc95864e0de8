"""den.py OUT SECONDS [--kind KIND] [--real N] [--init]: denoiser with a noise map, trained on free data: truth + noise of the counts."""
import argparse,copy,glob
from train import *
from ptychopinn_reconstructor.physics.simulation.textures import TEXTURES
def zfeats(z,sig,Wrel,M=None):
    return np.stack([z.real,z.imag,.5*np.log(sig/.05),.5*np.log(np.maximum(Wrel,.05)),(np.zeros(z.shape) if M is None else np.clip(M-1,-1,4))]).astype(np.float32)
def sigma_of(W,med): return np.clip(1/np.sqrt(2*np.maximum(W,.05*med)),.004,1.).astype(np.float32)
TAU=2.
def real_state(O,G,W,M):
    med=np.median(W[W>.1*W.max()]); Wc=np.maximum(W,.05*med); sig=sigma_of(W,med)
    z=O+2*G/(Wc+TAU); return z.astype(np.complex64),sig,W/med,M
def real(f,kinds='fh'):
    z=np.load(f); T,W=z['T'],z['W']; out=[]
    for k in kinds:
        if f'O{k}' not in z: continue
        y,sig,rel,M=real_state(z[f'O{k}'],z[f'G{k}'],W,z[f'M{k}']); u=slow_phase(z[f'O{k}'],T,W,SIG); t=T*u
        w=(rel>.15).astype(np.float32); m=32; w[:m]*=0; w[-m:]*=0; w[:,:m]*=0; w[:,-m:]*=0
        out.append(np.concatenate([zfeats(y,sig,rel,M),sig[None],w[None],t.real[None],t.imag[None]]).astype(np.float32))
    return out
def aug9(c,rng):
    c=np.rot90(c,rng.integers(4),(1,2))
    if rng.random()<.5: c=c[:,:,::-1]
    c=np.ascontiguousarray(c).copy(); a=np.exp(1j*rng.uniform(0,2*np.pi)); conj=rng.random()<.5
    for i,j in ((0,1),(7,8)):
        z=(c[i]+1j*c[j])*a
        if conj: z=z.conj()
        c[i],c[j]=z.real,z.imag
    return c
def cut(c,rng,n,ch=None):
    h,w=c.shape[-2:]
    for _ in range(10):
        i,j=rng.integers(h-n+1),rng.integers(w-n+1)
        if ch is None or c[ch,i:i+n,j:j+n].mean()>.35: break
    return c[...,i:i+n,j:j+n]
def surrogate(T,W,dose,rng):
    """T (n,n), W (n,n) relative light: an ideal scan's estimate"""
    med=np.median(W); rel=W/med; sig=sigma_of(rel*dose,dose)
    n=(rng.normal(size=T.shape)+1j*rng.normal(size=T.shape))
    return (T+sig*n).astype(np.complex64),sig,rel.astype(np.float32)
def loss_d(m,b):
    with torch.autocast('cpu',torch.bfloat16): y=m(b[:,:5].contiguous(memory_format=torch.channels_last))
    s=b[:,5:6]; o=b[:,:2]+s*y.float(); t=b[:,7:9]; w=b[:,6:7]; n=w.sum((1,2,3))+1
    A=lambda z: torch.sqrt(z[:,:1]**2+z[:,1:]**2+1e-6)
    s2=(s**2*w).sum((1,2,3))/n
    mf=((o-t)**2*w).sum((1,2,3))/n; af=((A(o)-A(t))**2*w).sum((1,2,3))/n
    return .5*(torch.log(mf/s2+.004)+torch.log(af/s2+.002)), 10*torch.log10(2*s2/mf.detach())
def main():
    P=argparse.ArgumentParser(); P.add_argument('out'); P.add_argument('seconds',type=float); P.add_argument('--kind'); P.add_argument('--real',type=int,default=2); P.add_argument('--init'); P.add_argument('--lr',type=float,default=1.5e-3); P.add_argument('--doses',default='1,4000'); P.add_argument('--seed',type=int,default=0)
    a=P.parse_args(); lo,hi=np.log([float(v) for v in a.doses.split(',')]); torch.manual_seed(a.seed); rng=np.random.default_rng([5,a.seed])
    m=Net(ch=5).to(memory_format=torch.channels_last)
    if a.init: m.load_state_dict(torch.load(a.init))
    ema=copy.deepcopy(m); opt=torch.optim.Adam(m.parameters(),lr=a.lr,betas=(.9,.99))
    files=sorted(glob.glob(str(D/'tr*.npz'))); Ws=[]; pool=[]; R=[]
    for f in files:
        z=np.load(f); W=z['W']; h,w=W.shape; 
        if min(h,w)-64>=96: Ws.append(W[32:h-32,32:w-32])
        if not a.kind: pool.append(z['T'][4:-4,4:-4])
        if a.real: R+=real(f)
    R=[c for c in R if min(c.shape[1:])>=96]
    draw=(lambda: make_object(a.kind,(192,192),rng)) if a.kind else (lambda: random_object(rng,(192,192)))
    if a.kind: pool=[draw() for _ in range(40)]
    t0=time.process_time(); step=0; hist=[]; log=0
    while True:
        t=time.process_time()-t0
        if t>a.seconds: break
        if step%6==5:
            if len(pool)<400: pool.append(draw())
            else: pool[rng.integers(len(pool))]=draw()
        for g in opt.param_groups: g['lr']=a.lr*min(1,(step+1)/100)*(.5+.5*np.cos(np.pi*t/a.seconds))+1e-6
        B=[]
        for _ in range(8-a.real):
            T=cut(pool[rng.integers(len(pool))],rng,96); W=cut(Ws[rng.integers(len(Ws))],rng,96)
            z,sig,rel=surrogate(T,W,np.exp(rng.uniform(lo,hi)),rng)
            B.append(np.concatenate([zfeats(z,sig,rel),sig[None],(rel>.15)[None],T.real[None],T.imag[None]]).astype(np.float32))
        for _ in range(a.real): B.append(cut(R[rng.integers(len(R))],rng,96,6))
        b=np.stack([aug9(c,rng) for c in B])
        L,g=loss_d(m,torch.from_numpy(b)); loss=L.mean()
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(),1.); opt.step(); step+=1
        d=min(.999,1-1/(step/10+1))
        with torch.no_grad():
            for p,e in zip(m.parameters(),ema.parameters()): e.lerp_(p,1-d)
        k=8-a.real; hist.append([float(L.detach()[:k].mean()),float(g[:k].mean()),float(L.detach()[k:].mean()) if a.real else 0])
        if t>log+20: log=t; print(f't {t:.0f} step {step} pool {len(pool)} loss/gain surrogate, loss real {np.mean(hist[-150:],0).round(3)}',flush=True); torch.save(ema.state_dict(),a.out)
    torch.save(ema.state_dict(),a.out); print('done',step)
if __name__=='__main__': main()
