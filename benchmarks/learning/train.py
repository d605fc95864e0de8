"""train.py OUT SECONDS [--kinds f,h] [--init FILE] [--pattern tr*.npz]"""
import sys,time,glob,argparse,copy
from lib import *
import torch; torch.set_num_threads(1)
from net import *
SIG=8.
def feats(O,G,W,M):
    """channels (9,h,w) float32; scale (h,w)"""
    med=np.median(W[W>.1*W.max()]); Wc=np.maximum(W,.05*med)
    white=G/np.sqrt(Wc)*2; newton=G/(Wc+20)*4
    lim=lambda z,m: z*np.minimum(1,m/np.maximum(np.abs(z),1e-9))
    white,newton=lim(white,8),lim(newton,4)
    sc=np.clip(1/np.sqrt(2*Wc),.008,.25).astype(np.float32)
    return np.stack([O.real,O.imag,white.real,white.imag,newton.real,newton.imag,.5*np.log(sc/.05),.5*np.log(Wc/med),np.clip(M-1,-1,4)]).astype(np.float32),sc
def load(f,kinds):
    z=np.load(f); out=[]
    if 'T' not in z or float(z['ph'])<0: return out
    T=z['T']; W=z['W']; med=np.median(W[W>.1*W.max()])
    for k in kinds:
        if f'O{k}' not in z: continue
        O=z[f'O{k}']; ref=np.angle(np.vdot(T,O*(W>.1*med)))
        u=slow_phase(O,T,W,SIG); x,sc=feats(O,z[f'G{k}'],W,z[f'M{k}'])
        w=(W>.15*med).astype(np.float32)
        m=32; w[:m]*=0; w[-m:]*=0; w[:,:m]*=0; w[:,-m:]*=0   # the rim beyond the outermost centers is little known
        t=T*u
        out.append((np.concatenate([x,sc[None],w[None],t.real[None],t.imag[None]]).astype(np.float32)))
    return out
def augment(c,rng):
    """c (13,h,w)"""
    c=np.rot90(c,rng.integers(4),(1,2)); 
    if rng.random()<.5: c=c[:,:,::-1]
    c=np.ascontiguousarray(c).copy(); a=rng.uniform(0,2*np.pi); conj=rng.random()<.5
    for i,j in ((0,1),(2,3),(4,5),(11,12)):
        z=(c[i]+1j*c[j])*np.exp(1j*a); 
        if conj: z=z.conj()
        c[i],c[j]=z.real,z.imag
    return c
def crop(c,rng,n):
    h,w=c.shape[1:]
    if h<n or w<n: c=np.pad(c,((0,0),(0,max(0,n-h)),(0,max(0,n-w))),mode='edge'); h,w=c.shape[1:]
    for _ in range(10):
        i,j=rng.integers(h-n+1),rng.integers(w-n+1)
        if c[10,i:i+n,j:j+n].mean()>.35: break
    return c[:,i:i+n,j:j+n]
def loss_of(m,b,bf=True):
    with torch.autocast('cpu',torch.bfloat16,enabled=bf): y=m(b[:,:9].contiguous(memory_format=torch.channels_last))
    o=b[:,:2]+b[:,9:10]*y.float(); t=b[:,11:13]; w=b[:,10:11]
    n=w.sum((1,2,3))+1
    mf=((o-t)**2*w).sum((1,2,3))/n; m0=((b[:,:2]-t)**2*w).sum((1,2,3))/n
    A=lambda z: torch.sqrt(z[:,:1]**2+z[:,1:]**2+1e-6)
    at=A(t); af=((A(o)-at)**2*w).sum((1,2,3))/n; a0=((A(b[:,:2])-at)**2*w).sum((1,2,3))/n
    L=torch.log((mf+.03*m0+1e-7)/(m0+1e-7))+torch.log((af+.03*a0+1e-7)/(a0+1e-7))
    return .5*L, m0, mf.detach(), a0, af.detach()
def main():
    A=argparse.ArgumentParser(); A.add_argument('out'); A.add_argument('seconds',type=float); A.add_argument('--kinds',default='f,h'); A.add_argument('--init'); A.add_argument('--pattern',default='tr*.npz'); A.add_argument('--lr',type=float,default=1.5e-3); A.add_argument('--crop',type=int,default=96); A.add_argument('--seed',type=int,default=0); A.add_argument('--blind',action='store_true'); A.add_argument('--val',default='va*.npz')
    a=A.parse_args(); kinds=a.kinds.split(',')
    torch.manual_seed(a.seed); rng=np.random.default_rng(a.seed)
    m=Net().to(memory_format=torch.channels_last)
    if a.init: m.load_state_dict(torch.load(a.init))
    ema=copy.deepcopy(m); opt=torch.optim.Adam(m.parameters(),lr=a.lr,betas=(.9,.99))
    data={}; t0=time.process_time(); step=0; hist=[]; nextload=0; log=0
    while True:
        t=time.process_time()-t0
        if t>a.seconds: break
        if step>=nextload:
            for f in sorted(glob.glob(str(D/a.pattern))):
                if f not in data:
                    try: data[f]=load(f,kinds)
                    except Exception as e: continue
            pool=[c for v in data.values() for c in v]; nextload=step+150
        q=t/a.seconds
        for g in opt.param_groups: g['lr']=a.lr*min(1,(step+1)/100)*(.5+.5*np.cos(np.pi*q))+1e-6
        b=np.stack([augment(crop(pool[rng.integers(len(pool))],rng,a.crop),rng) for _ in range(8)])
        if a.blind: b[:,2:6]=0; b[:,8]=0
        L,m0,mf,a0,af=loss_of(m,torch.from_numpy(b)); loss=L.mean()
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(m.parameters(),1.); opt.step(); step+=1
        d=min(.999,1-1/(step/10+1))
        with torch.no_grad():
            for p,e in zip(m.parameters(),ema.parameters()): e.lerp_(p,1-d)
        hist.append([float((10*torch.log10(m0/mf)).mean()),float((10*torch.log10((a0+1e-7)/(af+1e-7))).mean())])
        if t>log+20:
            log=t; print(f't {t:.0f} step {step} scans {len(data)} gain dB {np.mean(hist[-200:],0).round(3)} median {np.median(hist[-200:],0).round(3)}',flush=True); torch.save(ema.state_dict(),a.out)
    torch.save(ema.state_dict(),a.out); print('done',step)
if __name__=='__main__': main()
