from bound import *
nets=[loadd(f) for f in sys.argv[1:]]; rng=np.random.default_rng(3); sh=(192,192)
sets={'page coins cell lattice':[OBJ[k](sh) for k in ('page','coins','cell','lattice')],'procedural':[random_object(np.random.default_rng([8,i]),sh) for i in range(4)]}
for name,objs in sets.items():
    for dose in (15,150,1500):
        R=[]
        for T in objs:
            z,sig,rel=surrogate(T,np.ones(sh,np.float32),dose,rng)
            tv=[psnr(Smoothness.for_dose(np.full(sh,dose,np.float32),s)(z),T) for s in (.25,.5,1,2,4)]
            best=tv[int(np.argmax([v[0] for v in tv]))]; R.append(np.r_[psnr(z,T),best])
            for m in nets: R[-1]=np.r_[R[-1],psnr(denoise(m,z,sig,rel),T)-best]
        R=np.array(R); r=np.median(R,0); print(f'{name:24s} dose {dose:5d} noisy {r[0]:.1f} TV {r[3]:.1f} {r[4]:.1f} {r[5]:.1f} | net gain detail/phase/amp',r[6:].round(2),'detail each',R[:,6].round(2),flush=True)
