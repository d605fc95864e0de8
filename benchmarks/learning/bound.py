"""ideal scans: truth + white noise of 1/(2W) per component: TV (best of five strengths, oracle) against the network"""
from den import *
from evalset import OBJ
from ptychopinn_reconstructor.physics.engine.prior import Smoothness
def loadd(f):
    m=Net(ch=5).to(memory_format=torch.channels_last); m.load_state_dict(torch.load(f)); return m.eval()
def denoise(m,z,sig,rel,M=None,bf=False):
    c=np.exp(-1j*np.angle(z.sum())); h,w=z.shape; x=zfeats(z*c,sig,rel,M)
    x=np.pad(x,((0,0),(0,-h%8),(0,-w%8)),mode='edge')
    with torch.no_grad(): y=m(torch.from_numpy(x[None]).contiguous(memory_format=torch.channels_last))[0].numpy()[:,:h,:w]
    return ((z*c+sig*(y[0]+1j*y[1]))*np.conj(c)).astype(np.complex64)
def psnr(O,T,m=8):
    O,T=O[m:-m,m:-m],T[m:-m,m:-m]; r=(np.abs(O)*np.abs(T)).sum()/(np.abs(T)**2).sum()
    return np.array([-10*np.log10(np.mean(np.abs(O/r-T)**2)),10*np.log10(2.4**2/np.mean(np.angle(O*T.conj())**2)),10*np.log10(.16/np.mean((np.abs(O)/r-np.abs(T))**2))])
if __name__=='__main__':
    nets=[loadd(f) for f in sys.argv[1:]]; rng=np.random.default_rng(3); sh=(192,192)
    sets={'photographs, star, lattice':[OBJ[k](sh) for k in ('page','coins','camera','cell','star','lattice','grass','text')],
      'procedural':[random_object(np.random.default_rng([8,i]),sh) for i in range(8)],'cells':[make_object('cells',sh,np.random.default_rng([9,i])) for i in range(6)]}
    for name,objs in sets.items():
        for dose in (3,15,150,1500):
            R=[]
            for T in objs:
                z,sig,rel=surrogate(T,np.ones(sh,np.float32),dose,rng)
                tv=[psnr(Smoothness.for_dose(np.full(sh,dose,np.float32),s)(z),T) for s in (.15,.3,.6,1,2)]
                best=tv[int(np.argmax([v[0] for v in tv]))]
                R.append(np.r_[psnr(z,T),best]); 
                for m in nets: R[-1]=np.r_[R[-1],psnr(denoise(m,z,sig,rel),T)-best]
            R=np.median(R,0); print(f'{name:28s} dose {dose:5d} noisy {R[0]:.1f} TV detail {R[3]:.1f} phase {R[4]:.1f} amp {R[5]:.1f} | nets gain detail/phase/amp',R[6:].reshape(-1,3).round(2).tolist(),flush=True)
