"""Scans, probes and measurements of the experiments on a learned step (docs/explanation/learning.md)."""
import os
os.environ.setdefault('OMP_NUM_THREADS','1')
import sys, time, json
import numpy as np
from pathlib import Path
from dataclasses import replace
from scipy import fft, ndimage, special
from ptychopinn_reconstructor.physics.simulation.simulate import simulate, raster, BORDER
from ptychopinn_reconstructor.physics.simulation.objects import random_object, make_object
from ptychopinn_reconstructor.physics.probes import energy_diameter, make_probe, _from_pupil
from ptychopinn_reconstructor.physics.prepare import prepare_scan
from ptychopinn_reconstructor.physics.sampling import scan_overlap
from ptychopinn_reconstructor.physics.scoring.metrics import compare
from ptychopinn_reconstructor.physics.engine.refine import RefineOptions, refine, scan_dose
from ptychopinn_reconstructor.physics.engine.update import Engine
from ptychopinn_reconstructor.physics.engine.far_field_step import FarFieldStep
from ptychopinn_reconstructor.physics.engine.wavefront import correct_long_range_phase
from ptychopinn_reconstructor.physics.arrays import NUMPY
from ptychopinn_reconstructor.physics.residual import residual
from ptychopinn_reconstructor.scan import Scan
D=Path(os.environ.get('LEARNING_DATA','learning-data')); D.mkdir(exist_ok=True); N=64

def random_probe(rng):
    for _ in range(50):
        u=rng.random()
        if u<.6:
            outer=rng.uniform(7,18); inner=rng.choice([0,1])*rng.uniform(.2,.6)*outer
            p=_from_pupil(N,outer=outer,inner=inner,defocus=rng.choice([-1,1])*rng.uniform(0,100))
        elif u<.8:
            x=np.arange(N)-N//2; r=np.hypot(x[:,None],x); R=rng.uniform(8,22)
            p=special.expit((R-r)/rng.uniform(.6,3))*np.exp(1j*r**2/rng.uniform(40,200)*rng.choice([-1,1]))
        else:
            x=np.arange(N)-N//2; r=np.hypot(x[:,None],x); s=rng.uniform(6,11)
            p=np.exp(-r**2/2/s**2+1j*r**2/rng.uniform(40,200)*rng.choice([-1,1]))
        if rng.random()<.4:   # aberrations: smooth random phase of the pupil
            S=fft.fftshift(fft.fft2(fft.ifftshift(p))); ph=ndimage.gaussian_filter(rng.normal(size=(N,N)),rng.uniform(3,6))
            S=S*np.exp(1j*ph/ph.std()*rng.uniform(.3,1.5)); p=fft.fftshift(fft.ifft2(fft.ifftshift(S)))
        d=energy_diameter(p); edge=(np.abs(p)**2); e=(edge[:3].sum()+edge[-3:].sum()+edge[:,:3].sum()+edge[:,-3:].sum())/edge.sum()
        if 12<d<46 and e<.02: return p,d
    raise RuntimeError

def centers_for(rng,d,overlap,most,extent=130):
    step=(1-overlap)*d
    count=int(np.clip((extent/step+1)**2,49,most))
    return raster(count,step,min(2.,.25*step),N,rng)

def make(obj,probe,centers,photons,seed):
    shape=tuple(int(v) for v in np.ceil(centers.max(axis=0)+(N-1)/2+BORDER).astype(int)+1)
    truth=obj(shape)
    return simulate(positions=centers,photons=photons,object=truth,probe=probe,seed=seed)

def options(prepared,passes=None,**k):
    kw=dict(dose=scan_dose(prepared),overlap=scan_overlap(prepared.positions,prepared.probe),background='off',intensity='off'); kw.update(k)
    return RefineOptions.for_scan(passes,**kw)

def run(prepared,passes=None,start=None,**k):
    t=time.process_time()
    r=refine(prepared,np.ones(prepared.layout.shape,np.complex64) if start is None else start,options(prepared,passes,**k))
    return r.canvas,time.process_time()-t


from ptychopinn_reconstructor.physics.counting_noise import expected_residual
class Recording:
    """A far-field step that keeps each pattern's misfit in units of noise."""
    def __init__(self,step): self.step=step; self.arrays=step.arrays; self.good=step.good; self.ratios=[]
    def __call__(self,counts,predicted):
        lit=predicted>.1
        d=(np.sqrt(counts)-np.sqrt(np.maximum(predicted,0)))**2*lit
        noise=(expected_residual(predicted)*lit).sum(axis=(1,2))
        self.ratios.append(d.sum(axis=(1,2))/np.maximum(noise,1e-9))
        return self.step(counts,predicted)

def measure(prepared,canvas,step=None):
    """Full-batch engine direction G, W, misfit (ratio to noise) spread over the canvas; ratios per pattern."""
    rec=Recording(step or FarFieldStep.for_scan(prepared,NUMPY))
    e=Engine(prepared,canvas,prepared.probe,rec)
    n=len(prepared); s=e._accumulate(np.arange(n),False,False,None)
    ratios=np.concatenate(rec.ratios)
    M=np.zeros(canvas.shape,np.float32); power=(np.abs(prepared.probe)**2).sum(0).astype(np.float32)
    NUMPY.scatter(M,ratios[:,None,None].astype(np.float32)*power,prepared.layout.corners)
    return s.object,s.weight,M/np.maximum(s.weight,1e-6),ratios

def truth_on_canvas(prepared,truth):
    o=np.rint(-np.asarray(prepared.layout.origin)).astype(int)  # canvas index = c + origin; truth index = c
    h,w=prepared.layout.shape
    return truth[o[0]:o[0]+h,o[1]:o[1]+w]

def slow_phase(O,T,W,sigma):
    z=O*np.conj(T)*np.minimum(W/np.median(W[W>.1*W.max()]),1)
    g=ndimage.gaussian_filter(z.real,sigma)+1j*ndimage.gaussian_filter(z.imag,sigma)
    return np.exp(1j*np.angle(g+1e-20))

def area_of(prepared,margin=4):
    from ptychopinn_reconstructor.physics.geometry import scan_area
    return scan_area(prepared.positions,(31.5,31.5),margin)

def detail_db(O,T,area,W,sigma=10.):
    """-20 lg of the rms complex error, phase slower than ~10 px set aside, the amplitude's ratio removed."""
    u=slow_phase(O,T,W,sigma)
    a=(O*np.conj(u))[area]; t=T[area]; a=a/((np.abs(a)*np.abs(t)).sum()/(np.abs(t)**2).sum())
    return float(-10*np.log10(np.mean(np.abs(a-t)**2)))

def scores(prepared,canvas,scan,pistons=False):
    c=compare(canvas,prepared.layout.origin,np.asarray(scan.object),scan.object_origin,scan.positions,margin=4,pistons=pistons)
    return dict(phase=c.phase_psnr,amp=c.amplitude_psnr,area=c.frc.area,hp=c.phase_psnr_hp,
      detail=detail_db(canvas,truth_on_canvas(prepared,np.asarray(scan.object)),area_of(prepared),measure_w(prepared)))

def measure_w(prepared):
    from ptychopinn_reconstructor.physics.illumination import illumination
    return illumination(prepared.layout,prepared.probe)
